"""Ignore files: which paths of a build context the build does not see (features D41, D42)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final, Self

from lamina.build.dockerfile.blanks import trim
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.match import PathPattern, clean_path
from lamina.build.dockerfile.source import Range, Source
from lamina.values import dataclass

#: How many directories' results are remembered; a walk needs the ancestors of the current path only.
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """One pattern.

    Attributes:
        pattern: cleaned, without `!`.
        includes: written with `!`: what matches is brought back.
        line: its line in the file, 0 when it comes from elsewhere.
    """

    pattern: str
    includes: bool
    line: int = 0


class IgnoreMatcher:
    """Decides about paths; the last rule that matches a path or one of its parents wins.

    Rules of one kind that follow each other are one regular expression, and what matched a directory is remembered for
    all paths below it, so that a path costs about one match per change between excluding and including rules.
    """

    def __init__(self, rules: Iterable[IgnoreRule] = (), *, source: Source | None = None) -> None:
        """Compile rules.

        Raises:
            BadPattern: a pattern is malformed.
        """
        self.rules = tuple(rules)
        self._groups = tuple(
            _Group(includes, [_compile(rule, source) for rule in run])
            for includes, run in groupby(self.rules, key=lambda rule: rule.includes)
        )
        # Last group first, because the last match wins.
        self._reversed = tuple((1 << number, self._groups[number]) for number in reversed(range(len(self._groups))))
        self._parents: dict[str, int] = {}

    @classmethod
    def from_text(cls, text: str | bytes, name: str = ".dockerignore") -> Self:
        """Read an ignore file.

        Args:
            text: its content; bytes are read as UTF-8.
            name: how messages call it.

        Raises:
            DockerfileError: a lone `!`, or a malformed pattern.
        """
        content = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
        source = Source(name, content)
        return cls(_rules(source), source=source)

    @classmethod
    def from_patterns(cls, patterns: Iterable[str]) -> Self:
        """From patterns as an ignore file holds them, without comments.

        Raises:
            DockerfileError: a lone `!`, or a malformed pattern.
        """
        return cls(rule for pattern in patterns if (rule := _rule(pattern, 0)))

    @property
    def includes_some(self) -> bool:
        """Whether a rule brings paths back."""
        return any(rule.includes for rule in self.rules)

    def __bool__(self) -> bool:
        return bool(self.rules)

    def excluded(self, path: str) -> bool:
        """Whether a path is excluded, itself or by a parent.

        Args:
            path: relative to the context, `/` between components, as a walk makes it: neither `./` nor a slash in
                front or behind. The root (`.` or "") is never excluded.
        """
        if path in ("", "."):
            return False
        cut = path.rfind("/")
        inherited = self._bits(path[:cut]) if cut > 0 else 0
        for bit, group in self._reversed:
            if inherited & bit or group.matches(path):
                return not group.includes
        return False

    def may_contain_included(self, directory: str) -> bool:
        """Whether something below a directory can be in the build; when not, a walk may skip it.

        Args:
            directory: as for `excluded`.
        """
        if directory in ("", "."):
            return True
        bits = self._bits(directory)
        for bit, group in self._reversed:
            if bits & bit:
                # Everything below is matched by this group as well, and nothing later can say otherwise.
                return group.includes
            if group.includes and group.may_match_below(directory):
                return True
        return True

    def _bits(self, directory: str) -> int:
        """Which groups match a directory or one of its parents."""
        known = self._parents.get(directory)
        if known is not None:
            return known
        # Replaced when full rather than emptied, so that another thread's walk keeps the one that it began with.
        remembered = self._parents if len(self._parents) < _REMEMBERED else {}
        self._parents = remembered
        # Step by step down, not by recursion: a hostile archive has paths thousands of components deep.
        start = directory.rfind("/")
        while start > 0 and directory[:start] not in remembered:
            start = directory.rfind("/", 0, start)
        bits = remembered[directory[:start]] if start > 0 else 0
        for path in _paths_down(directory, max(start, 0)):
            for number, group in enumerate(self._groups):
                if not bits >> number & 1 and group.matches(path):
                    bits |= 1 << number
            remembered[path] = bits
        return bits


class _Group:
    """Rules of one kind that follow each other."""

    __slots__ = ("_patterns", "_regex", "_slow", "includes")

    def __init__(self, includes: bool, patterns: list[PathPattern]) -> None:
        fast = [pattern.regex for pattern in patterns if pattern.regex is not None]
        self.includes = includes
        self._patterns = patterns
        self._regex = re.compile("|".join(fast), re.DOTALL) if fast else None
        self._slow = tuple(pattern for pattern in patterns if pattern.regex is None)

    def matches(self, path: str) -> bool:
        if self._regex is not None and self._regex.fullmatch(path):
            return True
        return any(pattern.matches(path) for pattern in self._slow)

    def may_match_below(self, directory: str) -> bool:
        return any(pattern.may_match_below(directory) for pattern in self._patterns)


def _paths_down(directory: str, known: int) -> Iterator[str]:
    """The prefixes of a path that end at slashes behind position `known`, and the path itself."""
    slash = directory.find("/", known + 1)
    while slash > 0:
        yield directory[:slash]
        slash = directory.find("/", slash + 1)
    yield directory


def _rules(source: Source) -> Iterator[IgnoreRule]:
    for number, line in enumerate(source.text.removeprefix("\ufeff").split("\n"), 1):
        if line.startswith("#"):
            continue
        try:
            rule = _rule(line, number)
        except DockerfileError as error:
            raise DockerfileError(error.message, source=source, range=Range(number, number)) from None
        if rule:
            yield rule


def _rule(text: str, line: int) -> IgnoreRule | None:
    pattern = trim(text)
    includes = pattern.startswith("!")
    if includes:
        pattern = trim(pattern[1:])
    if includes and pattern.strip("/") == "":
        raise DockerfileError('illegal exclusion pattern: "!"')
    if not pattern:
        return None
    pattern = clean_path(pattern)
    return IgnoreRule(pattern[1:] if len(pattern) > 1 and pattern[0] == "/" else pattern, includes, line)


def _compile(rule: IgnoreRule, source: Source | None) -> PathPattern:
    try:
        return PathPattern(rule.pattern, deep=True)
    except DockerfileError as error:
        if source is not None and rule.line:
            error.source, error.range = source, Range(rule.line, rule.line)
        raise
