"""Sessions at a terminal, one store each, played block by block; the bases they build on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamina.testing import machine
from lamina.testing.sessions import Player


@pytest.fixture(scope="session")
def debian() -> Path:
    base = machine.debian_base()
    if isinstance(base, str):
        pytest.skip(base)
    return base


@pytest.fixture(scope="session")
def mirrors() -> None:
    if why := machine.mirrors_answer():
        pytest.skip(why)


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("busybox") / "busybox.tar"
    if not machine.busybox_base(file):
        pytest.skip("needs busybox-static")
    return file


@pytest.fixture(scope="module")
def players(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Player]]:
    """`players(name, **env)`: the session of that name, opened when its first block is played, closed at the end."""
    found: dict[str, Player] = {}

    def player(name: str, **env: str) -> Player:
        if name not in found:
            known = {"PORT": str(machine.free_port()), "PRIVATE": str(machine.free_port())}
            found[name] = Player(tmp_path_factory.mktemp(name), known=known, env=env)
        return found[name]

    yield player
    for one in found.values():
        one.close()
