"""The made-up internet as fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lamina.testing.hostile_registry import FakeNetwork, HostileServer, Reply
from lamina.testing.made_up_internet import World


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as stack:
        made = World(FakeNetwork(), stack)
        made.stock()
        yield made


@pytest.fixture
def attacker(world: World) -> HostileServer:
    """Answers everything with 200 and remembers it."""
    return world.serve("attacker.invalid.example", "11.66.6.6", lambda _request: Reply(200, b'{"token":"stolen"}'))
