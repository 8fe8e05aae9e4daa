"""What a killed `create` left is found, named and freed; what others are making, or made, stays (A1, F3)."""

from __future__ import annotations

import io
import os
from functools import partial
from pathlib import Path

import pytest

from lamina.engine.containers import NewContainer
from lamina.engine.engine import Engine
from lamina.engine.imports import ImportOptions
from lamina.engine.settings import Settings
from lamina.runtime.config import ContainerOptions
from lamina.spec.reference import Reference
from lamina.store.store import Store
from lamina.testing import kill_points
from lamina.testing.store_images import tar

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path: Path) -> str:
    path = str(tmp_path / "data")
    Store.open(path, driver="vfs").close()
    with opened(path) as engine:
        options = ImportOptions(reference=Reference.parse("app:1"), changes=['CMD ["/x"]', "VOLUME /data"])
        engine.archives.import_tar(io.BytesIO(tar(("data", 0o755), ("data/seed", b"x"))), options)
    return path


def opened(root: str) -> Engine:
    return Engine(Settings.at(root))


def create(root: str) -> str:
    with opened(root) as engine:
        return engine.containers.create(NewContainer("app:1", ContainerOptions())).id


def assert_only(engine: Engine, containers: list[str]) -> None:
    """There is nothing on disk but what belongs to these, a volume and a layer each."""
    root = engine.store.root
    assert sorted(record.id for record in engine.containers.supervisor.all()) == sorted(containers)
    assert sorted(os.listdir(f"{root}/containers")) == sorted(containers)
    sources = [mount["source"] for each in engine.containers.supervisor.all() for mount in each.mounts]
    assert sorted(volume.name for volume in engine.volumes.select()) == sorted(sources)
    assert sorted(os.listdir(f"{root}/volumes")) == sorted(sources)
    assert len(os.listdir(f"{root}/snapshots")) == 1 + len(containers)
    assert engine.system.fsck().findings == ()


@pytest.mark.parametrize("points", [10, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_a_create_killed_anywhere_leaves_nothing_that_stays(root: str, points: int) -> None:
    kept = create(root)
    count = len(kill_points.places(partial(create, root)))
    killed = named = 0
    for number in range(0, count, max(1, count // points)):
        killed += kill_points.killed_at(number, partial(create, root))
        with opened(root) as engine:
            found = engine.system.fsck().findings
            named += any("the command that made it" in finding.cause for finding in found)
            assert not any(finding.harmful for finding in found), found
            if number % 2:
                engine.images.collect()
            else:
                assert engine.system.fsck(repair=True).clean
            made = [record.id for record in engine.containers.supervisor.all()]
            assert kept in made
            assert_only(engine, made)
    assert killed > 5
    assert named > 0


def test_what_a_living_process_is_making_stays(root: str) -> None:
    with opened(root) as engine:
        volume = engine.containers.supervisor.volumes.create(pending=True)
        with engine.store.lease("create a container") as lease:
            engine.store.snapshots.prepare(f"container-{'a' * 64}", lease=lease)
            os.makedirs(f"{root}/containers/{'a' * 64}/rootfs")
            with opened(root) as other:
                other.images.collect()
                assert [each.name for each in other.volumes.select()] == [volume.name]
                assert os.listdir(f"{root}/containers") == ["a" * 64]


def test_a_volume_outlives_its_container_unless_it_was_to_go(root: str) -> None:
    made = create(root)
    with opened(root) as engine:
        mine = engine.volumes.create().name
        engine.containers.supervisor.remove(made)
        engine.images.collect()
        assert len(engine.volumes.select()) == 2
        assert mine in [volume.name for volume in engine.volumes.select()]
