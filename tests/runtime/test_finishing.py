"""The end of a run: what is taken away without asking the runtime, and what the runtime is still asked for."""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from lamina.runtime import cgroups, recovery
from lamina.runtime.supervisor import Supervisor
from lamina.testing.container_store import ContainerStore

pytestmark = [pytest.mark.root, pytest.mark.runtime]
CRUN = "/usr/bin/crun"


def groups_of(container_id: str) -> list[str]:
    return list(cgroups._groups(f"/lamina/{container_id}", cgroups.ROOT))


@pytest.fixture
def noting(tmp_path: Path) -> tuple[str, Path]:
    """crun, which notes what it is asked for."""
    if not os.path.exists(CRUN):
        pytest.skip("needs crun")
    path, log = tmp_path / "noting", tmp_path / "asked"
    path.write_text(f'#!/bin/sh\necho "$3" >>{log}\nexec {CRUN} "$@"\n')
    path.chmod(0o755)
    return str(path), log


def test_a_container_that_ended_by_itself_is_forgotten_without_the_runtime(
    store: ContainerStore, noting: tuple[str, Path]
) -> None:
    runtime, log = noting
    done = store.run("sh", "-c", "sleep 1000 & exit 3", runtime=runtime, network="none")
    assert done.code == 3
    assert "delete" not in log.read_text()
    assert groups_of(done.id) == []
    assert not os.path.exists(os.path.join(store.paths.run_root, "crun", done.id))
    assert store.attach(done.id).code == 3  # nothing of the first run is in the way


def test_what_outlives_the_first_process_is_ended_by_the_runtime(
    store: ContainerStore, noting: tuple[str, Path]
) -> None:
    runtime, log = noting
    done = store.run("sh", "-c", "sleep 1000 >&- 2>&- & exit 3", runtime=runtime, network="none", pid="host")
    assert done.code == 3
    assert "delete" in log.read_text()
    assert groups_of(done.id) == []


def test_the_exit_command_of_a_run_that_was_seen_to_its_end_is_not_started(
    store: ContainerStore, tmp_path: Path
) -> None:
    ran, python = tmp_path / "ran", tmp_path / "python"
    python.write_text(f'#!/bin/sh\ntouch {ran}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    store.supervisor = Supervisor(store.paths, store.database, python=str(python))
    container_id = store.create("sh", "-c", "exit 4", network="none")
    _record, connection = store.supervisor.start(container_id, attach=True)
    assert connection is not None
    waiting = [os.pidfd_open(pid) for pid in recovery.watchers(container_id)]
    connection.close()
    assert store.supervisor.wait(container_id) == 4
    for pid in recovery.watchers(container_id):
        with suppress(ProcessLookupError):
            waiting.append(os.pidfd_open(pid))
    for fd in waiting:
        assert select.select([fd], [], [], 20)[0]
        os.close(fd)
    assert not ran.exists()
