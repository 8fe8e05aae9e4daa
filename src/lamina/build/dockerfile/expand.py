"""Word expansion: variables, quotes and escapes, and splitting into words.

Dockerfile reference, section "Environment replacement"; features D35, D36.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lamina.build.dockerfile.blanks import is_space
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.gofmt import quote
from lamina.build.dockerfile.patterns import MAX_RESULT, ShellPattern
from lamina.values import dataclass, field

_SPECIAL_NAMES: Final = "@*#?-$!0"
_MAX_DEPTH: Final = 64
_BRACE_MISSING: Final = "syntax error: missing '}'"


@dataclass(frozen=True, slots=True)
class Mode:
    """How a word is read.

    Attributes:
        escape: the escape character of the file, a backslash or a backtick.
        quotes: whether quotes quote; in the body of a heredoc they are ordinary characters.
        keep_quotes: leave quotes in the result.
        keep_escapes: leave escape characters in the result.
        keep_unset: leave references to unset variables as they are (for display).
    """

    escape: str = "\\"
    quotes: bool = True
    keep_quotes: bool = False
    keep_escapes: bool = False
    keep_unset: bool = False


@dataclass(frozen=True, slots=True)
class Expansion:
    """What became of a word.

    Attributes:
        text: the expanded word.
        words: the same split at unquoted blanks, also at those that came from variables; empty words vanish.
        matched: names of the variables that were used and set.
        unmatched: names that were used and are not set, those with a default value included.
    """

    text: str
    words: tuple[str, ...]
    matched: frozenset[str] = frozenset()
    unmatched: frozenset[str] = frozenset()


def expand(text: str, env: Mapping[str, str], mode: Mode | None = None) -> Expansion:
    """Expand one word.

    Args:
        text: the word as it stands in the file, quotes included.
        env: the variables that are set.
        mode: how to read it; plain words with a backslash as escape by default.

    Raises:
        DockerfileError: a quote or brace is not closed, a modifier is unknown, or `${name:?message}` failed.
    """
    reader = _Reader(text, env, mode or Mode())
    try:
        result = reader.walk(None, reader.mode.keep_escapes)
    except _Unterminated as error:
        raise DockerfileError(f"failed to process {quote(text)}: {error}") from None
    except DockerfileError as error:
        raise DockerfileError(f"failed to process {quote(text)}: {error.message}") from None
    return Expansion(result, tuple(reader.words.finish()), frozenset(reader.matched), frozenset(reader.unmatched))


class _Unterminated(Exception):
    """The text ended while something was open."""


@dataclass(slots=True)
class _Words:
    """Collects words; quoted and escaped characters never split."""

    done: list[str] = field(default_factory=list)
    _current: list[str] = field(default_factory=list)

    def raw(self, text: str) -> None:
        if text:
            self._current.append(text)

    def split(self, text: str) -> None:
        for char in text:
            if not is_space(char):
                self._current.append(char)
            elif self._current:
                self.finish()

    def finish(self) -> list[str]:
        if self._current:
            self.done.append("".join(self._current))
            self._current = []
        return self.done


class _Reader:
    """One pass over a word."""

    def __init__(self, text: str, env: Mapping[str, str], mode: Mode) -> None:
        self.text, self.env, self.mode = text, env, mode
        self.words = _Words()
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()
        self._at = 0
        self._depth = 0
        self._raw_escapes = mode.keep_escapes

    def _peek(self) -> str:
        return self.text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self.text[self._at : self._at + 1]
        self._at += 1
        return char

    def walk(self, stop: str | None, raw_escapes: bool) -> str:
        """Read up to an unquoted `stop` character, or to the end; only the outermost level collects words."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise DockerfileError(f"substitutions are nested more than {_MAX_DEPTH} levels deep")
        before, self._raw_escapes = self._raw_escapes, raw_escapes
        result: list[str] = []
        size = 0
        words = self.words if self._depth == 1 else None
        while char := self._peek():
            if char == stop:
                self._next()
                break
            piece, splits = self._piece(char)
            result.append(piece)
            size += len(piece)
            if size > MAX_RESULT:
                raise DockerfileError(f"the result is longer than {MAX_RESULT} characters")
            if words is not None:
                (words.split if splits else words.raw)(piece)
        else:
            if stop is not None:
                raise _Unterminated(f"unexpected end of statement while looking for matching {stop}")
        self._raw_escapes = before
        self._depth -= 1
        return "".join(result)

    def _piece(self, char: str) -> tuple[str, bool]:
        """The next piece of the result, and whether its blanks split words."""
        if char == "$":
            return self._dollar(), True
        if self.mode.quotes and char == "'":
            return self._single(), False
        if self.mode.quotes and char == '"':
            return self._double(), False
        if char == "<":
            return self._angle(), False
        self._next()
        if char != self.mode.escape:
            return char, True
        return (char if self._raw_escapes else "") + self._next(), False

    def _angle(self) -> str:
        """`<< word` and `<<- word` are one word, so that heredocs are found with and without the blank."""
        start = self._at
        self._next()
        if self._peek() == "<":
            self._next()
            self._at += self.text.startswith(("- ", "-\t"), self._at)
            while self._peek() and self._peek() in " \t\r":
                self._next()
        return self.text[start : self._at]

    def _single(self) -> str:
        start = self._at
        end = self.text.find("'", start + 1)
        if end < 0:
            raise _Unterminated("unexpected end of statement while looking for matching single-quote")
        self._at = end + 1
        return self.text[start : end + 1] if self.mode.keep_quotes else self.text[start + 1 : end]

    def _double(self) -> str:
        mark = self._next() if self.mode.keep_quotes else self._next() and ""
        result = [mark]
        while char := self._peek():
            if char == "$":
                result.append(self._dollar())
                continue
            self._next()
            if char == '"':
                return "".join([*result, mark])
            if char == self.mode.escape:
                following = self._peek()
                if not following:
                    continue
                # Inside quotes only these three can be escaped; before others the escape character stays.
                if following in ('"', "$", self.mode.escape):
                    result.append((char if self._raw_escapes else "") + self._next())
                    continue
            result.append(char)
        raise _Unterminated("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self._next()
        if self._peek() == "{":
            self._next()
            return self._braced()
        name = self._name()
        if not name:
            return "$"
        value = self._lookup(name)
        if value is None:
            return f"${name}" if self.mode.keep_unset else ""
        return value

    def _name(self) -> str:
        start = self._at
        first = self._peek()
        if first and first in _SPECIAL_NAMES and first != "0":
            return self._next()
        while (char := self._peek()) and (
            char.isdecimal() if first.isdecimal() else char.isalpha() or char.isdecimal() or char == "_"
        ):
            self._next()
        return self.text[start : self._at]

    def _lookup(self, name: str) -> str | None:
        value = self.env.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        return value

    def _braced(self) -> str:
        """`${`..`}`, the opening brace already read."""
        start = self._at
        if not self._peek():
            raise DockerfileError(_BRACE_MISSING)
        name = self._name()
        if not name:
            raise DockerfileError("syntax error: bad substitution")
        modifier = self._next()
        if not modifier:
            raise DockerfileError(_BRACE_MISSING)
        if modifier == "}":
            value = self._lookup(name)
            if value is None:
                return f"${{{name}}}" if self.mode.keep_unset else ""
            return value
        colon = modifier == ":"
        if colon:
            modifier = self._next()
        if not modifier or modifier not in "+-?#%/" or (colon and modifier in "#%/"):
            raise DockerfileError(f"unsupported modifier ({':' if colon else ''}{modifier}) in substitution")
        if modifier == "/":
            result = self._substituted(name)
        elif modifier in "#%":
            result = self._trimmed(name, modifier)
        else:
            result = self._defaulted(name, modifier, colon=colon)
        return f"${{{self.text[start : self._at]}" if result is None else result

    def _part(self, stop: str, *, raw: bool, missing: str) -> str:
        try:
            return self.walk(stop, raw)
        except _Unterminated:
            raise DockerfileError(missing) from None

    def _defaulted(self, name: str, modifier: str, *, colon: bool) -> str | None:
        word = self._part("}", raw=False, missing=_BRACE_MISSING)
        value = self._lookup(name)
        if value is None and self.mode.keep_unset:
            return None
        unset = value is None or (colon and not value)
        if modifier == "+":
            return "" if unset else word
        if not unset:
            return value
        if modifier == "-":
            return word
        raise DockerfileError(
            f"{name}: {word or ('is not allowed to be unset' if value is None else 'is not allowed to be empty')}"
        )

    def _trimmed(self, name: str, modifier: str) -> str | None:
        word = self._part("}", raw=True, missing=_BRACE_MISSING)
        value = self._lookup(name)
        if value is None and self.mode.keep_unset:
            return None
        longest = word.startswith(modifier)
        pattern = ShellPattern(word[1:] if longest else word, self.mode.escape)
        trim = pattern.trim_prefix if modifier == "#" else pattern.trim_suffix
        return trim(value or "", longest=longest)

    def _substituted(self, name: str) -> str | None:
        every = self._peek() == "/"
        if every:
            self._next()
        pattern = self._part("/", raw=True, missing="syntax error: missing '/' in ${}")
        replacement = self._part("}", raw=True, missing=_BRACE_MISSING)
        value = self._lookup(name)
        if value is None and self.mode.keep_unset:
            return None
        return ShellPattern(pattern, self.mode.escape).replace(value or "", replacement, all=every)
