"""The results as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import dataclass, field
from typing import Any

#: Peak memory of pull, push and save, MiB, whatever the image's size.
MEMORY_LIMIT = 200.0


@dataclass
class Line:
    """What one case gave.

    Attributes:
        case, title: which.
        target: lamina's seconds over the best peer's must not exceed it (for rates: must reach it).
        against: the peers that count.
        seconds: each tool's measured rounds.
        memory: each tool's peak, MiB; for docker the daemon's and containerd's are in it.
        errors: why a tool has no figure.
        unit: "s", or a rate such as "req/s" where more is better.
        held: whether the peak memory is held under the limit.
    """

    case: str
    title: str
    target: float
    against: tuple[str, ...]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    unit: str = "s"
    held: bool = False

    def figure(self, tool: str) -> float | None:
        """The median, or None."""
        found = self.seconds.get(tool)
        return statistics.median(found) if found else None

    def best(self) -> tuple[str, float] | None:
        """The best peer that counts and its figure."""
        figures = [(name, figure) for name in self.against if (figure := self.figure(name)) is not None]
        if not figures:
            return None
        pick = max if self.unit != "s" else min
        return pick(figures, key=lambda pair: pair[1])

    def ratio(self) -> float | None:
        """lamina's figure over the best peer's."""
        mine, best = self.figure("lamina"), self.best()
        return mine / best[1] if mine is not None and best else None

    def verdict(self) -> str:
        """`pass`, `MISS`, or `-` when there is nothing to compare."""
        ratio = self.ratio()
        if ratio is None:
            return "-"
        good = ratio <= self.target if self.unit == "s" else ratio >= self.target
        return "pass" if good else "MISS"


COLUMNS = ("lamina", "docker", "buildkit", "podman", "docker-registry")


def table(lines: list[Line]) -> str:
    """The lines as aligned text, medians with their spread."""
    used = [name for name in COLUMNS if any(name in line.seconds or name in line.errors for line in lines)]
    rows = [["case", *used, "best peer", "ratio", "target", "verdict"]]
    for line in lines:
        best, ratio = line.best(), line.ratio()
        sign = "<=" if line.unit == "s" else ">="
        rows.append(
            [
                f"{line.title} [{line.case}]",
                *(_cell(line, name) for name in used),
                best[0] if best else "-",
                f"{ratio:.2f}" if ratio is not None else "-",
                f"{sign} {line.target:g}x",
                line.verdict(),
            ]
        )
    return _aligned(rows)


def memory_table(lines: list[Line]) -> str:
    """Peak memory of every case, MiB."""
    used = [name for name in COLUMNS if any(name in line.memory for line in lines)]
    rows = [["peak memory, MiB", *used, "limit", "verdict"]]
    for line in lines:
        if not line.memory:
            continue
        mine = line.memory.get("lamina")
        limit = f"< {MEMORY_LIMIT:g}" if line.held else ""
        verdict = "" if not line.held or mine is None else "pass" if mine < MEMORY_LIMIT else "MISS"
        cells = [f"{line.memory[name]:.0f}" if name in line.memory else "-" for name in used]
        rows.append([line.case, *cells, limit, verdict])
    return _aligned(rows) if len(rows) > 1 else ""


def _cell(line: Line, tool: str) -> str:
    figure = line.figure(tool)
    if figure is None:
        return "failed" if tool in line.errors else "-"
    values = line.seconds[tool]
    if line.unit != "s":
        return f"{figure:,.0f} {line.unit}"
    spread = f" ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else ""
    return f"{figure:.2f}{spread}"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def write(folder: str, name: str, lines: list[Line], facts: dict[str, Any]) -> str:
    """Write results/NAME.json and give its path."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{name}.json")
    document = {
        "facts": facts,
        "cases": [
            {
                "case": line.case,
                "title": line.title,
                "unit": line.unit,
                "target": line.target,
                "against": list(line.against),
                "figures": line.seconds,
                "memory_mib": line.memory,
                "errors": line.errors,
                "ratio": line.ratio(),
                "verdict": line.verdict(),
            }
            for line in lines
        ],
    }
    with open(path, "w") as file:
        json.dump(document, file, indent=1)
    return path
