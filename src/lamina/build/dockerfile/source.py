"""Where in a Dockerfile something stands: line ranges and the text they point into."""

from __future__ import annotations

from lamina.values import dataclass

_RULE = "-" * 20


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Lines `start` to `end`, both counted from 1 and both included."""

    start: int
    end: int

    def __contains__(self, line: object) -> bool:
        return isinstance(line, int) and self.start <= line <= self.end

    def __str__(self) -> str:
        return str(self.start) if self.start == self.end else f"{self.start}-{self.end}"


@dataclass(frozen=True, slots=True)
class Source:
    """The text of one Dockerfile under the name that messages use."""

    name: str
    text: str

    def excerpt(self, where: Range) -> str:
        """The lines of a range with two or more lines of surroundings, marked `>>>` (D49).

        Returns:
            Text ending in a newline, or "" when the range lies outside of the text.
        """
        lines = self.text.replace("\r\n", "\n").split("\n")
        last = min(where.end, len(lines))
        if not 1 <= where.start <= len(lines):
            return ""
        # A single line gets a wider view than a block; room missing on one side is given to the other.
        start, end, wanted, shown = where.start, last, 4 if where.start == last else 2, 0
        while shown < wanted:
            shown += 1 + (start > 1) + (end < len(lines))
            start, end = max(1, start - 1), min(len(lines), end + 1)
        body = [
            f" {number:3d} | {'>>>' if number in where else '   '} {lines[number - 1]}"
            for number in range(start, end + 1)
        ]
        return "\n".join([f"{self.name}:{where.start}", _RULE, *body, _RULE, ""])
