"""What a hostile image or process tries against the programs that start it; each with its legitimate twin."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from lamina.errors import LaminaError
from lamina.runtime import oci
from lamina.testing.container_store import ContainerStore

pytestmark = [pytest.mark.root, pytest.mark.runtime]

# Keeps a descriptor of every program that shows up in the container and is none of its own, and writes to it once the
# program has ended: while it runs, the kernel says ETXTBSY (CVE-2019-5736).
_OVERWRITE = """
while :; do
    for process in /proc/[0-9]*; do
        program=$(readlink $process/exe) || continue
        [ "$program" = /bin/busybox ] && continue
        echo "$program" >>/tmp/seen
        ( exec 3<$process/exe && sleep 0.2 && echo overwritten >/proc/self/fd/3 ) 2>/dev/null &
    done
done
"""


def programs() -> dict[str, str]:
    """Digests of the programs that start and watch containers."""
    paths = {shutil.which(name, path=oci.SEARCH_PATH) for name in ("conmon", "crun", "runc")} - {None}
    return {str(path): hashlib.sha256(Path(str(path)).read_bytes()).hexdigest() for path in paths}


@pytest.fixture(params=["crun", "runc"])
def runtime(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if shutil.which(name, path=oci.SEARCH_PATH) is None:
        pytest.skip(f"needs {name}")
    return name


def test_an_entry_point_that_is_the_runtime_itself(store: ContainerStore, runtime: str) -> None:  # threat 35
    before = programs()
    container_id = store.create("/evil", runtime=runtime, network="none")
    upper = Path(store.supervisor.find(container_id).rootfs["upper"])
    (upper / "evil").write_text("#!/proc/self/exe\n")
    (upper / "evil").chmod(0o755)
    try:
        store.supervisor.start(container_id)
        store.supervisor.wait(container_id)
    except LaminaError:
        pass  # refused, as good
    assert programs() == before
    assert store.run("echo", "fine", runtime=runtime, network="none").out == "fine\n"


def test_a_process_that_lies_in_wait_for_the_runtime(store: ContainerStore, runtime: str) -> None:  # threat 35
    before = programs()
    container_id = store.create("sh", "-c", _OVERWRITE, runtime=runtime, network="none")
    store.supervisor.start(container_id)
    for _ in range(20):
        assert store.execute(container_id, "echo", "fine").out == "fine\n"
    store.supervisor.remove(container_id, force=True)
    assert programs() == before
