"""One registry in a thread for each test module, and a client for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from lamina.testing.registry import running_registry
from lamina.testing.registry_client import Client


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One registry for the tests of a module, which use repositories of their own."""
    with running_registry(str(tmp_path_factory.mktemp("registry"))) as running:
        yield running


@pytest.fixture
def client(address: str) -> Client:
    return Client(address)


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository that no other test uses."""
    return "r/" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
