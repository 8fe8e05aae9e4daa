"""Aligned columns like Go's text/tabwriter with docker's settings: minimum width 10, padding 3, spaces.

A cell is a text ended by a tab; the last text of a line belongs to no column. A column is a run of adjacent lines
that all have that cell, so a line without tabs (or an empty line) ends every column above it.
"""

from __future__ import annotations

from collections.abc import Sequence

MIN_WIDTH = 10
PADDING = 3


def align(text: str, *, min_width: int = MIN_WIDTH, padding: int = PADDING) -> str:
    """The text with its tabs replaced by spaces so that columns line up."""
    lines = text.split("\n")
    rows = [line.split("\t") for line in lines]
    out: list[str] = []
    _format(rows, 0, len(rows), [], out, min_width, padding)
    return "\n".join(out)


def _format(
    rows: Sequence[list[str]], start: int, stop: int, widths: list[int], out: list[str], min_width: int, padding: int
) -> None:
    """Writes rows[start:stop] whose first `len(widths)` columns are already measured."""
    column = len(widths)
    line = start
    while line < stop:
        if len(rows[line]) - 1 <= column:
            out.append(_join(rows[line], widths))
            line += 1
            continue
        end = line
        width = min_width
        empty = True
        while end < stop and len(rows[end]) - 1 > column:
            cell = len(rows[end][column])
            width = max(width, cell + padding)
            empty = empty and cell == 0
            end += 1
        _format(rows, line, end, [*widths, width], out, min_width, padding)
        line = end


def _join(row: list[str], widths: list[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
    return "".join(cells) + row[-1]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned lines, each ended by a newline."""
    if not rows:
        return ""
    return align("".join("\t".join(row) + "\n" for row in rows))
