"""Path patterns: Go's `filepath.Match` for COPY wildcards (D24), and its `**` extension for ignore files (D41).

A pattern becomes tokens. They are matched by one regular expression when that cannot backtrack badly, else by a
bit-parallel automaton, so that a hostile pattern costs linear time. Python's own globs differ in `**`, in brackets,
in escapes and in hidden files.
"""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache
from typing import Final, Literal

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.gofmt import quote
from lamina.values import dataclass

_META = re.compile(r"[*?\[\\]")
_SPECIAL = re.compile(r"[*?\[\]\\]")

#: What a token matches: one character, one but `/`, one of a set, any run without `/`, any run, any run up to a `/`.
_Kind = Literal["char", "one", "set", "star", "tree", "dirs"]

#: A regular expression with more unbounded runs than this may take polynomial time of a degree that hurts.
_MAX_RUNS: Final = 2


class BadPattern(DockerfileError):
    """A pattern is malformed: an open or empty bracket, or an escape at its end."""

    def __init__(self, pattern: str) -> None:
        super().__init__(f"syntax error in pattern {quote(pattern)}")
        self.pattern = pattern


@dataclass(frozen=True, slots=True)
class _Token:
    kind: _Kind
    char: str = ""
    ranges: tuple[tuple[str, str], ...] = ()
    negated: bool = False

    def takes(self, char: str) -> bool:
        """Whether it matches this one character; meant for tokens that match one."""
        if self.kind == "char":
            return char == self.char
        if self.kind == "one":
            return char != "/"
        return any(low <= char <= high for low, high in self.ranges) != self.negated


def has_wildcard(text: str) -> bool:
    """Whether a path has a character that means something in a pattern, escapes included."""
    return _META.search(text) is not None


def clean_path(path: str) -> str:
    """Lexically shortest equivalent of a path, as Go's `path.Clean`: no `//`, `.`, inner `..`; "" becomes `.`."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


class PathPattern:
    """A compiled pattern.

    Args:
        pattern: `*` and `?` never match `/`; `[a-z]`, `[^a-z]`; a backslash escapes.
        deep: whether `**` matches any number of directories.

    Raises:
        BadPattern: it is malformed; with `deep` also when a range in brackets is upside down.
    """

    __slots__ = ("_automaton", "_literal", "_regex", "_tokens", "pattern")

    def __init__(self, pattern: str, *, deep: bool = False) -> None:
        self.pattern = pattern
        self._tokens = _tokenize(pattern, deep)
        self._automaton: _Automaton | None = None
        self._literal = _longest_literal(self._tokens)
        self._regex = re.compile(source, re.DOTALL) if (source := _regex(self._tokens)) is not None else None

    @property
    def regex(self) -> str | None:
        """Source of the regular expression, None when the pattern has to run on the automaton."""
        return self._regex.pattern if self._regex else None

    def matches(self, path: str) -> bool:
        """Whether the whole path matches."""
        if self._regex is not None:
            return self._regex.fullmatch(path) is not None
        return self._literal in path and self._machine().run(path) & self._machine().accept != 0

    def may_match_below(self, directory: str) -> bool:
        """Whether some path below a directory could match."""
        return self._machine().run(directory + "/") & ~self._machine().accept != 0

    def _machine(self) -> _Automaton:
        if self._automaton is None:
            self._automaton = _Automaton(self._tokens)
        return self._automaton


def match(pattern: str, path: str) -> bool:
    """Go's `filepath.Match` on Unix.

    Raises:
        BadPattern: the pattern is malformed.
    """
    return _compiled(pattern).matches(path)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> PathPattern:
    return PathPattern(pattern)


def _tokenize(pattern: str, deep: bool) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if deep and pattern.startswith("**", at):
            at += 2
            if pattern.startswith("/", at):
                at += 1
            kind: _Kind = "dirs" if at < len(pattern) else "tree"
            # In a row they mean what the last one means alone.
            if tokens and tokens[-1].kind == "dirs":
                tokens.pop()
            tokens.append(_Token(kind))
            continue
        at += 1
        if char == "*":
            if not tokens or tokens[-1].kind != "star":
                tokens.append(_Token("star"))
        elif char == "?":
            tokens.append(_Token("one"))
        elif char == "[":
            token, at = _bracket(pattern, at, deep)
            tokens.append(token)
        elif char == "\\":
            if at == len(pattern):
                raise BadPattern(pattern)
            tokens.append(_Token("char", pattern[at]))
            at += 1
        else:
            tokens.append(_Token("char", char))
    # `**name` without a slash matches any path that ends in name, as long as no other wildcard follows.
    if deep and pattern.startswith("**") and not pattern.startswith("**/") and not _SPECIAL.search(pattern, 2):
        tokens[0] = _Token("tree")
    return tokens


def _bracket(pattern: str, at: int, deep: bool) -> tuple[_Token, int]:
    """Read a bracket expression, `at` being behind its `[`."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern.startswith("]", at)):
        low, at = _bracket_char(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _bracket_char(pattern, at + 1)
        if deep and high < low:
            raise BadPattern(pattern)
        ranges.append((low, high))
    return _Token("set", ranges=tuple(ranges), negated=negated), at + 1


def _bracket_char(pattern: str, at: int) -> tuple[str, int]:
    if at < len(pattern) and pattern[at] not in "-]":
        if pattern[at] != "\\":
            return pattern[at], at + 1
        if at + 1 < len(pattern):
            return pattern[at + 1], at + 2
    raise BadPattern(pattern)


def _regex(tokens: list[_Token]) -> str | None:
    """A regular expression for the tokens; None when matching it could take long.

    A star that another star follows in the same path component is matched atomically up to the first place where the
    text between the two fits: trying later places can find nothing more. Stars in different components are kept apart
    by the slash. What is left to count are the runs that cross slashes.
    """
    parts: list[str] = []
    runs = 0
    opened = False
    for i, token in enumerate(tokens):
        if token.kind == "star":
            if opened:
                parts.append(")")
            opened = _star_follows(tokens, i + 1)
            parts.append("(?>[^/]*?" if opened else "[^/]*")
            runs += not opened and not _slash_follows(tokens, i + 1)
        elif token.kind == "tree":
            parts.append(".*")
            runs += i + 1 < len(tokens)
        elif token.kind == "dirs":
            parts.append("(?:.*/)?")
            runs += 1
        else:
            parts.append(_class(token))
    return "".join(parts) if runs <= _MAX_RUNS else None


def _star_follows(tokens: list[_Token], at: int) -> bool:
    """Whether only plain characters of the same component stand before the next star."""
    while at < len(tokens):
        token = tokens[at]
        if token.kind == "star":
            return True
        if token.kind not in ("char", "one") or token.char == "/":
            return False
        at += 1
    return False


def _slash_follows(tokens: list[_Token], at: int) -> bool:
    """Whether the component ends, in a slash or with the pattern, before anything that could match a slash."""
    while at < len(tokens) and tokens[at].kind in ("char", "one"):
        if tokens[at].char == "/":
            return True
        at += 1
    return at == len(tokens)


def _class(token: _Token) -> str:
    if token.kind == "char":
        return re.escape(token.char)
    if token.kind == "one":
        return "[^/]"
    ranges = [f"{re.escape(low)}-{re.escape(high)}" for low, high in token.ranges if low <= high]
    if not ranges:
        return "." if token.negated else "(?!)"
    return f"[{'^' if token.negated else ''}{''.join(ranges)}]"


def _longest_literal(tokens: list[_Token]) -> str:
    """The longest run of plain characters, which every match contains."""
    runs = "".join(token.char if token.kind == "char" else "\0" for token in tokens).split("\0")
    return max(runs, key=len)


class _Automaton:
    """Bit `i` of a state says that the first `i` tokens are matched."""

    __slots__ = ("_any", "_but_slash", "_dirs", "_known", "_optional", "_single", "_stay", "_tokens", "accept")

    def __init__(self, tokens: list[_Token]) -> None:
        def mask(*kinds: _Kind) -> int:
            return sum(1 << i for i, token in enumerate(tokens) if token.kind in kinds)

        self._tokens = tokens
        self._single = mask("char", "one", "set")
        self._optional = mask("star", "tree", "dirs")
        self._stay = mask("star", "tree", "dirs")
        self._but_slash = mask("star")
        self._dirs = mask("dirs")
        self._any = mask("tree")
        self._known: dict[str, int] = {}
        self.accept = 1 << len(tokens)

    def run(self, path: str) -> int:
        """The states after reading a path; 0 when nothing can match any more."""
        inside = 0  # runs up to a slash that have begun and may not be left before one
        states = self._close(1)
        for char in path:
            if not states and not inside:
                return 0
            dirs = (states & self._dirs) | inside
            stay = states & (self._stay & ~self._dirs)
            if char == "/":
                stay = stay & ~self._but_slash | dirs << 1
            taken = self._known.get(char)
            if taken is None:
                taken = self._known[char] = self._takers(char)
            inside = dirs
            states = self._close((states & taken) << 1 | stay)
        return states | (inside << 1 << len(self._tokens))

    def _takers(self, char: str) -> int:
        tokens = enumerate(self._tokens)
        return sum(1 << i for i, token in tokens if self._single >> i & 1 and token.takes(char))

    def _close(self, states: int) -> int:
        """Also skip what may match nothing."""
        while (more := states | (states & self._optional) << 1) != states:
            states = more
        return states
