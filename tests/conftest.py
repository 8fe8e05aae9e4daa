"""For every test: what its markers ask for, and that nothing of a run stays on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from lamina.testing import fake_runtime, leftovers

# A change is what turns a run red: no limit that a busy machine could miss, and the same samples every time.
# `--hypothesis-profile=default` looks at others.
hypothesis.settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what is marked `root` or `runtime` where that cannot be had, with the reason."""
    no_containers = fake_runtime.why_no_containers() if any(map(_starts_containers, items)) else ""
    for item in items:
        if _starts_containers(item) and no_containers:
            item.add_marker(pytest.mark.skip(reason=no_containers))
        elif item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


def _starts_containers(item: pytest.Item) -> bool:
    return item.get_closest_marker("runtime") is not None


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_on_the_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ends last, because it starts first; a path tells the test, which pytest names its folders after."""
    base = str(tmp_path_factory.getbasetemp())
    yield
    left = leftovers.left_by(base)
    leftovers.sweep(base, left)
    assert not left, "\n".join(["tests of this run left behind:", *left])
