"""The specification documents of tests/data/spec by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1] / "data" / "spec"


@pytest.fixture
def document() -> Callable[[str], bytes]:
    """Reads a fixture's bytes by its name without `.json`."""
    return lambda name: (DATA / f"{name}.json").read_bytes()
