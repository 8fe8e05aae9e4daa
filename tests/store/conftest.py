"""Shared set-up of the store tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lamina.linux.mounts import Unmount, mount_points
from lamina.store.store import Store


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **amount: float) -> None:
        self.now += timedelta(**amount)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[str]:
    """Where a store can be; nothing stays mounted there."""
    yield str(tmp_path / "data")
    for point in reversed(mount_points(str(tmp_path))):
        Unmount(point, detach=True).execute()


@pytest.fixture
def open_store(root: str) -> Iterator[Callable[..., Store]]:
    """Opens the store at `root`; vfs unless said otherwise, so that no privilege is needed."""
    stores: list[Store] = []

    def do(**options: object) -> Store:
        options.setdefault("driver", None if os.path.exists(f"{root}/lamina.db") else "vfs")
        stores.append(Store.open(root, **options))  # type: ignore[arg-type]
        return stores[-1]

    yield do
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    return open_store()


@pytest.fixture
def overlay_store(open_store: Callable[..., Store]) -> Store:
    """A store on overlayfs."""
    if os.geteuid() != 0:
        pytest.skip("mounting an overlay needs root")
    return open_store(driver="overlay")
