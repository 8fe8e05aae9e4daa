"""A store with a busybox image, and the program on it; at the end nothing of it may be left on the machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lamina.linux import mounts
from lamina.testing.busybox import Program, put_image


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("store"))
    with program.engine() as engine:
        put_image(engine)
    yield program
    program.remove_all()
    assert mounts.mount_points(str(program.root)) == []


@pytest.fixture
def lamina(shared_store: Program) -> Iterator[Program]:
    """The program; containers and volumes of a test are gone after it."""
    yield shared_store
    with shared_store.engine() as engine:
        supervisor = engine.containers.supervisor
        for record in supervisor.all():
            supervisor.remove(record.id, force=True, volumes=True)
        engine.volumes.prune(all=True)
        assert supervisor.all() == []
