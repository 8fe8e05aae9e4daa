"""The index is lost while containers are there: they are known again, and nothing of theirs is taken (F5)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.store.store import Store
from lamina.testing.busybox import Program, put_image

pytestmark = [pytest.mark.root, pytest.mark.runtime]
SHOWN = ("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}} {{.Ports}}")


@pytest.fixture(params=["overlay", pytest.param("vfs", marks=pytest.mark.soak)])
def lamina(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    """The program on a store of its own, whose index a test may lose."""
    program = Program(tmp_path)
    Store.open(str(tmp_path), driver=request.param).close()
    with program.engine() as engine:
        put_image(engine)
    yield program
    program.remove_all()


def lose_index(lamina: Program) -> None:
    for suffix in ("", "-wal", "-shm"):
        (lamina.root / f"lamina.db{suffix}").unlink(missing_ok=True)


def test_containers_outlive_it(lamina: Program):
    web = lamina.out(
        "run", "-d", "--name", "web", "-p", "127.0.0.1::80", "-v", "kept:/kept", "busybox", "sleep", "1000"
    )
    lamina.out("exec", "web", "sh", "-c", "echo mine > /written")
    lamina("run", "--name", "done", "busybox", "sh", "-c", "echo over > /end; exit 3")
    lamina.out("rename", "done", "ended")
    before = lamina.out(*SHOWN)
    lose_index(lamina)
    assert lamina("fsck", "--repair").returncode == 0
    assert lamina.out(*SHOWN) == before
    assert lamina.out("exec", "web", "cat", "/written") == "mine"
    assert lamina.out("diff", "ended") == "A /end"
    shown = json.loads(lamina.out("inspect", "web", "ended"))
    assert shown[1]["State"]["ExitCode"] == 3
    # its address is still taken
    address = lamina.out("run", "--rm", "busybox", "hostname", "-i")
    assert address != shown[0]["NetworkSettings"]["IPAddress"]
    assert lamina("fsck").returncode == 0
    assert not (lamina.root / "quarantine").exists()
    lamina.out("rm", "-f", "web")
    assert web not in lamina.out(*SHOWN)


@pytest.mark.parametrize("lamina", ["overlay"], indirect=True)
def test_what_only_a_mount_tells_is_not_taken(lamina: Program):
    """Without its record nobody knows the container; but what the kernel has mounted is left alone."""
    web = lamina.out("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    record = lamina.root / "containers" / web / "record.json"
    shutil.copy(record, lamina.root / "kept.json")
    record.unlink()
    lose_index(lamina)
    done = lamina("fsck", "--repair")
    assert done.returncode == 1
    assert "mounted" in done.stdout
    (lamina.root / "kept.json").rename(record)
    lose_index(lamina)
    assert lamina("fsck", "--repair").returncode == 0
    assert lamina.out("exec", "web", "cat", "/data/seed") == "from the image"


@pytest.mark.parametrize("lamina", ["vfs"], indirect=True)
def test_a_record_that_is_lost_is_written_again(lamina: Program):
    web = lamina.out("create", "--name", "web", "busybox", "true")
    record = lamina.root / "containers" / web / "record.json"
    written = record.read_bytes()
    assert record.stat().st_mode & 0o777 == 0o600
    record.write_bytes(b"")
    found = lamina("fsck")
    assert (found.returncode, "record.json" in found.stdout) == (1, True)
    assert lamina("fsck", "--repair").returncode == 0
    assert record.read_bytes() == written
    assert lamina("fsck").returncode == 0


@pytest.mark.parametrize("lamina", ["overlay"], indirect=True)
def test_an_index_that_lost_its_last_changes(lamina: Program):
    web = lamina.out("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    with lamina.engine() as engine, engine.store.db.write() as connection:
        for table in ("containers", "snapshots WHERE kind = 'active'", "endpoints"):
            connection.execute(f"DELETE FROM {table}")
    assert f"container {web}: the index does not know it" in lamina("fsck").stdout
    assert lamina("fsck", "--repair").returncode == 0
    assert lamina.out("exec", "web", "cat", "/data/seed") == "from the image"
