"""Heredocs: `<<EOF`, `<<-EOF`, `<<"EOF"`, `3<<EOF` (features D33, D34)."""

from __future__ import annotations

import re
from typing import Final

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.expand import Mode, expand
from lamina.values import dataclass

_MARK = re.compile(r"(\d*)<<(-?)\s*([^<]*)", re.ASCII)
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)
_FIND: Final = Mode(keep_quotes=True, keep_escapes=True, keep_unset=True)
_NAME: Final = Mode(keep_unset=True)
_RAW_NAME: Final = Mode(keep_quotes=True, keep_unset=True)


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A document that stands inside of the Dockerfile.

    Attributes:
        name: the delimiter without quotes; also the file's name when it is copied.
        content: the lines as they stand, each with its newline.
        expands: whether variables in it are replaced: no part of the delimiter is quoted.
        strip_tabs: written `<<-`: leading tabs go.
        descriptor: the file descriptor in front of `<<`, 0 when none.
    """

    name: str
    content: str
    expands: bool = True
    strip_tabs: bool = False
    descriptor: int = 0

    @property
    def body(self) -> str:
        """The content, without leading tabs where it was asked for."""
        return _LEADING_TABS.sub("", self.content) if self.strip_tabs else self.content

    def ends_at(self, line: str) -> bool:
        """Whether a line (without its newline) is the delimiter."""
        return (line.lstrip("\t") if self.strip_tabs else line) == self.name


def parse_mark(word: str) -> Heredoc | None:
    """Read `<<EOF` and its variants; the content is empty. None when the word is no such thing.

    Raises:
        DockerfileError: a quote in the delimiter is not closed.
    """
    match = _MARK.fullmatch(word)
    if match is None or not match[3]:
        return None
    names = expand(match[3], {}, _NAME).words
    raw = expand(match[3], {}, _RAW_NAME).words
    if len(names) != 1 or len(raw) != 1:
        return None
    expands = _quotes(names[0]) == _quotes(raw[0])
    return Heredoc(names[0], "", expands, match[2] == "-", int(match[1][-6:] or 0))


def find_marks(line: str) -> list[Heredoc]:
    """The heredocs that a line announces, in order.

    Raises:
        DockerfileError: a delimiter is malformed.
    """
    if "<<" not in line:
        return []
    try:
        words = expand(line, {}, _FIND).words
    except DockerfileError:
        # Text for a shell may hold quotes that are open here; then nothing in it is a heredoc.
        return []
    return [mark for word in words if (mark := parse_mark(word))]


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
