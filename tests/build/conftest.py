"""Builds on a real store; at the end of each test nothing of them may be left on the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamina.linux.mounts import Unmount, mount_points
from lamina.testing.builds import Workshop


@pytest.fixture
def make_workshop(tmp_path: Path) -> Iterator[Callable[..., Workshop]]:
    """Makes stores below the test's directory, each with the image `base` unless told otherwise."""
    made: list[Workshop] = []

    def make(
        name: str = "store", *, base: bool = True, env: dict[str, str] | None = None, driver: str = ""
    ) -> Workshop:
        workshop = Workshop(tmp_path, name, env, driver)
        made.append(workshop)
        if base:
            workshop.import_base()
        return workshop

    yield make
    left = mount_points(str(tmp_path))
    for point in reversed(left):
        Unmount(point, detach=True).execute()
    for workshop in made:
        workshop.close()
    assert not left, f"a build left mounts: {left}"


@pytest.fixture
def workshop(make_workshop: Callable[..., Workshop]) -> Workshop:
    return make_workshop()
