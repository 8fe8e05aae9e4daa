"""From text to logical lines: byte order mark, line ends, comments, continuations, heredocs (features D01-D03)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from lamina.build.dockerfile.blanks import SPACES, trim
from lamina.build.dockerfile.directives import Directive, DirectiveReader
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.heredoc import Heredoc
from lamina.build.dockerfile.source import Range, Source
from lamina.values import dataclass, field

#: Longest physical line in bytes, without its newline.
MAX_LINE: Final = 65535


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction's text, continuations joined.

    Attributes:
        text: from the first non-blank character to the end of the last line, escapes at line ends removed.
        range: all its lines, those of its heredocs included.
        comments: the comment lines directly above it, without `#`; an empty comment or line cuts them off.
        heredocs: the documents that follow it.
        blank_inside: the last line of a continuation that has a blank line inside, 0 when there is none.
    """

    text: str
    range: Range
    comments: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    blank_inside: int = 0


@dataclass(slots=True)
class Lexer:
    """Cuts one file. `directives` and `escape` are complete once the first logical line was read.

    Args:
        source: the file.
        marks: tells which heredocs a logical line announces.
    """

    source: Source
    marks: Callable[[str, str], list[Heredoc]]
    escape: str = "\\"
    directives: dict[str, Directive] = field(default_factory=dict)
    _number: int = 0

    def lines(self) -> Iterator[LogicalLine]:
        """The logical lines in order.

        Raises:
            DockerfileError: a line is too long, a directive is wrong, a heredoc does not end.
        """
        text = self.source.text.removeprefix("\ufeff")
        physical = iter(self._physical(text))
        reader = DirectiveReader(found=self.directives)
        comments: list[str] = []
        for raw in physical:
            line = raw.rstrip("\r\n").lstrip(SPACES)
            if self._directive(reader, line):
                continue
            if line.startswith("#"):
                comment = trim(line[1:])
                comments = [*comments, comment] if comment else []
                continue
            if not line:
                comments = []
                continue
            start = self._number
            joined, blank = self._join(line, physical)
            last = self._number
            heredocs = self._heredocs(joined, start, physical)
            yield LogicalLine(joined, Range(start, self._number), tuple(comments), heredocs, last if blank else 0)
            comments = []

    def _physical(self, text: str) -> Iterator[str]:
        """Physical lines with their line ends; counts them."""
        begin = 0
        while begin < len(text):
            end = text.find("\n", begin) + 1 or len(text)
            line = text[begin:end]
            begin = end
            self._number += 1
            if len(line) > MAX_LINE // 4 and len(line.removesuffix("\n").encode("utf-8", "replace")) > MAX_LINE:
                raise self._error(f"dockerfile line greater than max allowed size of {MAX_LINE}", self._number)
            if "\0" in line:
                raise self._error(
                    f"the Dockerfile has a NUL character on line {self._number}: it is not UTF-8 text",
                    self._number,
                    "save it as UTF-8; some Windows editors and shells write UTF-16",
                )
            yield line

    def _directive(self, reader: DirectiveReader, line: str) -> bool:
        try:
            found = reader.read(line, self._number)
        except DockerfileError as error:
            raise self._error(error.message, self._number) from None
        if found and (directive := reader.found.get("escape")):
            if directive.value not in ("\\", "`"):
                raise self._error(f"invalid escape token '{directive.value}' does not match ` or \\", self._number)
            self.escape = directive.value
        return found

    def _join(self, line: str, physical: Iterator[str]) -> tuple[str, bool]:
        """Follow a continuation; the joined text, and whether a blank line stood inside of it."""
        pieces: list[str] = []
        blank = False
        while (body := self._continued(line)) is not None:
            pieces.append(body)
            line = ""
            for raw in physical:
                line = raw.rstrip("\r\n")
                content = line.lstrip(SPACES)
                if content and not content.startswith("#"):
                    break
                # Comments and blank lines inside vanish without ending the instruction.
                blank = blank or not content
                line = ""
        pieces.append(line)
        return "".join(pieces), blank

    def _continued(self, line: str) -> str | None:
        """The line without the escape that ends it, None when none does; a doubled escape is no continuation."""
        body = line.rstrip(" \t")
        if not body.endswith(self.escape) or body.endswith(self.escape * 2):
            return None
        return body[: -len(self.escape)]

    def _heredocs(self, line: str, start: int, physical: Iterator[str]) -> tuple[Heredoc, ...]:
        result: list[Heredoc] = []
        try:
            marks = self.marks(line, self.escape)
        except DockerfileError as error:
            raise self._error(error.message, start) from None
        for mark in marks:
            content: list[str] = []
            for raw in physical:
                if mark.ends_at(raw.rstrip("\r\n")):
                    break
                content.append(raw)
            else:
                raise self._error("unterminated heredoc", start)
            result.append(Heredoc(mark.name, "".join(content), mark.expands, mark.strip_tabs, mark.descriptor))
        return tuple(result)

    def _error(self, message: str, start: int, hint: str | None = None) -> DockerfileError:
        where = Range(start, max(start, self._number))
        return DockerfileError(message, hint=hint, source=self.source, range=where)
