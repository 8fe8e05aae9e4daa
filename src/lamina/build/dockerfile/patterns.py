"""Shell patterns (`*`, `?`, escapes) of `${v#p}`, `${v%p}` and `${v/p/r}`, matched in linear time.

POSIX shell, section 2.13, without bracket expressions. Regular expressions would backtrack for hours on a hostile
pattern, so the pattern is run as a bit-parallel automaton: bit `i` set means that the first `i` tokens are matched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lamina.build.dockerfile.errors import DockerfileError

#: Longest result of one expansion, in characters; a command could not be started with more in its environment.
MAX_RESULT: Final = 1 << 20

_ANY: Final = None  # token of `*`
_ONE: Final = ""  # token of `?`


class ShellPattern:
    """A compiled pattern.

    Raises:
        DockerfileError: the pattern ends in an escape, or escapes a character that needs none.
    """

    __slots__ = ("_tokens",)

    def __init__(self, pattern: str, escape: str = "\\") -> None:
        self._tokens = _tokens(pattern, escape)

    def trim_prefix(self, value: str, *, longest: bool) -> str:
        """`value` without the shortest or longest prefix that matches."""
        end = _Automaton(self._tokens).match(value, 0, longest=longest)
        return value if end is None else value[end:]

    def trim_suffix(self, value: str, *, longest: bool) -> str:
        """`value` without the shortest or longest suffix that matches."""
        backwards = value[::-1]
        end = _Automaton(self._tokens[::-1]).match(backwards, 0, longest=longest)
        return value if end is None else backwards[end:][::-1]

    def replace(self, value: str, replacement: str, *, all: bool) -> str:
        """`value` with the first match, or every match, replaced; matches are leftmost and longest.

        Raises:
            DockerfileError: the result would exceed `MAX_RESULT`.
        """
        automaton = _Automaton(self._tokens)
        pieces: list[str] = []
        done, last_end, size = 0, -1, 0
        for start in _Automaton(self._tokens[::-1]).starts(value):
            if start < done:
                continue
            end = automaton.match(value, start, longest=True)
            if end is None or start == end == last_end:
                continue
            pieces += (value[done:start], replacement)
            size += start - done + len(replacement)
            if size > MAX_RESULT:
                raise DockerfileError(f"the result of a substitution is longer than {MAX_RESULT} characters")
            done = last_end = end
            if not all:
                break
        return "".join([*pieces, value[done:]])


class _Automaton:
    __slots__ = ("_accept", "_any", "_first", "_literal", "_one")

    def __init__(self, tokens: list[str | None]) -> None:
        self._literal: dict[str, int] = {}
        self._any = self._one = 0
        for i, token in enumerate(tokens):
            if token is _ANY:
                self._any |= 1 << i
            elif token == _ONE:
                self._one |= 1 << i
            else:
                self._literal[token] = self._literal.get(token, 0) | 1 << i
        self._accept = 1 << len(tokens)
        self._first = 1 | (1 & self._any) << 1

    def _step(self, states: int, char: str) -> int:
        advanced = states & self._literal.get(char, 0)
        if char != "\n":  # wildcards stay on their line
            advanced |= states & self._one
            stay = states & self._any
        else:
            stay = 0
        reached = advanced << 1 | stay
        return reached | (reached & self._any) << 1

    def match(self, value: str, start: int, *, longest: bool) -> int | None:
        """Where a match that begins at `start` ends, None when there is none."""
        states = self._first
        found = None
        for position in range(start, len(value) + 1):
            if states & self._accept:
                found = position
                if not longest:
                    break
            if position == len(value) or not states:
                break
            states = self._step(states, value[position])
        return found

    def starts(self, value: str) -> Iterable[int]:
        """Every position where a match begins, ascending; built from the reversed pattern, read from the end."""
        found = []
        states = self._first
        for position in range(len(value), -1, -1):
            if states & self._accept:
                found.append(position)
            if position:
                states = self._step(states, value[position - 1]) | self._first
        return reversed(found)


def _tokens(pattern: str, escape: str) -> list[str | None]:
    tokens: list[str | None] = []
    chars = iter(pattern)
    for char in chars:
        if char == "*":
            if not tokens or tokens[-1] is not _ANY:
                tokens.append(_ANY)
        elif char == "?":
            tokens.append(_ONE)
        elif char == escape:
            escaped = next(chars, "")
            # `}` and `/` are escaped for the sake of the surrounding ${}, the others for the pattern's own sake.
            if escaped not in ("}", "/", "*", "?", escape):
                raise DockerfileError(
                    f"invalid pattern ({pattern}) in substitution: invalid escape '{escape}{escaped}'"
                )
            tokens.append(escaped)
        else:
            tokens.append(char)
    return tokens
