"""The registry's own cases, measured by bench_registry.py: lamina's server next to docker-registry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import report

#: case name: (the measure as bench_registry.py prints it, title, unit, lamina's figure over the peer's must reach this)
CASES = {
    "manifest-get": ("manifest GET req/s", "manifest GET, 16 connections", "req/s", 4.0),
    "blob-get": ("blob GET MB/s", "blob GET, 256 MiB", "MB/s", 1.0),
    "blob-get-16": ("blob GET x16 MB/s", "blob GET, 256 MiB, 16 connections", "MB/s", 1.0),
    "blob-get-small": ("small blob GET req/s", "blob GET, 16 KiB, 16 connections", "req/s", 1.0),
    "blob-upload": ("upload PATCH MB/s", "blob upload by PATCH and PUT, 256 MiB", "MB/s", 1.0),
    "blob-upload-put": ("upload PUT MB/s", "blob upload by one PUT, 256 MiB", "MB/s", 1.0),
}
NAMES: tuple[str, ...] = tuple(CASES)


def measure(names: list[str], rounds: int | None) -> list[report.Line]:
    """One run of bench_registry.py gives all of its cases; those named become lines."""
    argv = [sys.executable, str(Path(__file__).with_name("bench_registry.py")), "--json"]
    argv += ["--rounds", str(rounds)] if rounds else []
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900, check=False)
    found: dict[str, dict[str, list[float]]] = json.loads(done.stdout) if done.returncode == 0 else {}
    lines = []
    for name in names:
        measure_name, title, unit, target = CASES[name]
        line = report.Line(name, title, target, ("docker-registry",), unit=unit)
        if found:
            line.seconds = {tool: figures[measure_name] for tool, figures in found.items()}
        else:
            tail = " | ".join(done.stderr.strip().splitlines()[-3:])
            line.errors["lamina"] = f"bench_registry.py: exit {done.returncode}: {tail[-600:]}"
        lines.append(line)
    return lines
