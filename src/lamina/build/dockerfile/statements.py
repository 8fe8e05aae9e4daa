"""Statements: keyword, flags and arguments of a logical line, before the keyword gives them a meaning."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from lamina.build.dockerfile.blanks import SPACES, split_all, split_first, trim
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.heredoc import Heredoc, find_marks
from lamina.build.dockerfile.lexer import LogicalLine
from lamina.build.dockerfile.source import Range
from lamina.build.dockerfile.words import split_flags, split_words
from lamina.values import dataclass, replace

#: Keywords whose arguments may announce heredocs.
_HEREDOC_KEYWORDS: Final = ("run", "copy", "add")
_STRING = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
_BLANK = r"[ \t\r\n]*+"
_STRINGS = re.compile(rf"\[{_BLANK}(?:{_STRING}{_BLANK}(?:,{_BLANK}{_STRING}{_BLANK})*+)?\]{_BLANK}")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction, cut into parts.

    Attributes:
        keyword: the first word as written.
        flags: the words with `--` in front, quotes and escapes resolved.
        rest: the arguments, trimmed.
        text: the whole logical line, trimmed; what image history quotes.
        range: its lines.
        escape: the escape character of the file.
        comments: see `LogicalLine`.
        heredocs: see `LogicalLine`.
    """

    keyword: str
    flags: tuple[str, ...]
    rest: str
    text: str
    range: Range
    escape: str = "\\"
    comments: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def name(self) -> str:
        """The keyword in upper case."""
        return self.keyword.upper()

    def inner(self) -> Statement:
        """The statement that the arguments form: what ONBUILD defers."""
        return replace(cut(self.rest, self.escape, self.range), heredocs=self.heredocs)

    def words(self) -> list[str]:
        """The arguments split at blanks, quotes ignored."""
        return split_all(self.rest)

    def quoted_words(self) -> list[str]:
        """The arguments split at blanks outside of quotes; quotes are kept."""
        return split_words(self.rest, self.escape)


def cut(text: str, escape: str, where: Range) -> Statement:
    """Cut a text that holds one instruction."""
    text = trim(text)
    keyword, arguments = split_first(text)
    flags, rest = split_flags(arguments or "", escape)
    return Statement(keyword, tuple(flags), trim(rest), text, where, escape)


def statement(line: LogicalLine, escape: str) -> Statement:
    """Cut a logical line."""
    return replace(cut(line.text, escape, line.range), comments=line.comments, heredocs=line.heredocs)


def heredoc_marks(text: str, escape: str) -> list[Heredoc]:
    """The heredocs that an instruction announces; only RUN, COPY and ADD can, not in JSON form, also under ONBUILD.

    Raises:
        DockerfileError: a delimiter is malformed.
    """
    if "<<" not in text:
        return []
    parts = cut(text, escape, Range(1, 1))
    if parts.keyword.lower() == "onbuild":
        parts = parts.inner()
    if parts.keyword.lower() not in _HEREDOC_KEYWORDS or json_strings(parts.rest) is not None:
        return []
    return find_marks(text)


def json_strings(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON array (D05); None when the text is no JSON array and so has the shell form.

    Raises:
        DockerfileError: it is a valid array that holds something other than strings.
    """
    text = text.lstrip(SPACES)
    if not text.startswith("["):
        return None
    if _STRINGS.fullmatch(text):
        return tuple(_LONE_SURROGATE.sub("\ufffd", item) for item in json.loads(text))
    if _is_array(text):
        raise DockerfileError("when using JSON array syntax, arrays must be comprised of strings only", bare=True)
    return None


def _is_array(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse, parse_int=float, parse_float=_finite)
    except RecursionError:
        # Nested deeper than any reader goes; what it nests are no strings.
        return True
    except ValueError:
        return False
    return True


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(digits)
    return value
