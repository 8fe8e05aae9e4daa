"""The registry's own cases, measured by bench_registry.py: lamina's server next to docker-registry."""

from __future__ import annotations

import report

NAMES: tuple[str, ...] = ()


def measure(names: list[str], work: str) -> list[report.Line]:
    """Measure the cases named."""
    raise NotImplementedError
