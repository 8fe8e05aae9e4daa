"""A volume gets what the image has, all of it or nothing, whatever happens meanwhile (F1, F2, F6, S58)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lamina.errors import LaminaError
from lamina.runtime.volumes import Volumes
from lamina.store.db import Database
from lamina.testing.faults import Crash, Fault, FaultyFiles, Loss

CONTENT = {"a": b"1" * 9000, "sub/b": b"2" * 500, "sub/deep/c": b"3"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    for name, data in CONTENT.items():
        path = tmp_path / "image/data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "image"


@pytest.fixture
def volumes_with(tmp_path: Path) -> Iterator[Callable[..., tuple[Volumes, FaultyFiles]]]:
    database = Database(str(tmp_path / "lamina.db"))
    (tmp_path / "volumes").mkdir()
    (tmp_path / "stash").mkdir()

    def make(at: int | None = None, fault: Fault = Fault.CRASH) -> tuple[Volumes, FaultyFiles]:
        files = FaultyFiles(at=at, fault=fault, stash=str(tmp_path / "stash"))
        return Volumes(database, str(tmp_path / "volumes"), lambda: "2026-01-01T00:00:00Z", files), files

    yield make
    database.close()


def content(path: str) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in Path(path).rglob("*") if each.is_file()}


def steps(make: Callable[..., tuple[Volumes, FaultyFiles]], image: Path) -> list[str]:
    volumes, files = make()
    assert volumes.seed(volumes.create("count").name, str(image), "/data")
    assert content(volumes.get("count").path) == CONTENT
    return files.steps


@pytest.mark.parametrize("loss", Loss)
def test_the_power_goes_at_any_step(
    volumes_with: Callable[..., tuple[Volumes, FaultyFiles]], image: Path, loss: Loss
) -> None:
    count = len(steps(volumes_with, image))
    assert count > 4
    for at in range(count + 1):
        volumes, files = volumes_with(at)
        name = volumes.create(f"v{at}").name
        with suppress(Crash):
            volumes.seed(name, str(image), "/data")
        files.power_cut(loss)
        again, _ = volumes_with()
        again.seed(name, str(image), "/data")
        assert content(again.get(name).path) == CONTENT, (at, files.steps)
        assert os.listdir(os.path.dirname(again.get(name).path)) == ["_data"]


@pytest.mark.parametrize("fault", [Fault.ENOSPC, Fault.EIO])
def test_the_disk_refuses_at_any_step(
    volumes_with: Callable[..., tuple[Volumes, FaultyFiles]], image: Path, fault: Fault
) -> None:
    failed = 0
    for at in range(len(steps(volumes_with, image))):
        volumes, _ = volumes_with(at, fault)
        name = volumes.create(f"v{at}").name
        try:
            volumes.seed(name, str(image), "/data")
        except LaminaError:
            failed += 1
        again, _ = volumes_with()
        again.seed(name, str(image), "/data")
        assert content(again.get(name).path) == CONTENT, at
    assert failed > 0
