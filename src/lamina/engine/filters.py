"""Filters of lists and prunes: `key=value` pairs checked against what a noun knows (C06, C07, C40)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from lamina.engine.moments import parse_moment
from lamina.errors import Invalid

_TRUE = frozenset({"1", "true", "True", "TRUE", "t", "T"})
_FALSE = frozenset({"0", "false", "False", "FALSE", "f", "F"})

Pairs = Iterable[tuple[str, str]]


class InvalidFilter(Invalid):
    """A filter that the noun does not have, or a value that it cannot take.

    Attributes:
        key: the filter's name.
    """

    def __init__(self, key: str, value: str | None = None) -> None:
        shown = key if value is None else f"{key}=[{value}]"
        super().__init__(f"invalid filter '{shown}'")
        self.key = key


class Filters:
    """Filters grouped by key.

    Values of one key are alternatives, except labels, which must all hold.
    """

    def __init__(self, pairs: Pairs, known: Collection[str]) -> None:
        """Check and group.

        Raises:
            InvalidFilter: a key is not in `known`.
        """
        self._values: dict[str, list[str]] = {}
        for key, value in pairs:
            if key not in known:
                raise InvalidFilter(key)
            self._values.setdefault(key, []).append(value)

    def values(self, key: str) -> list[str]:
        """What was given for a key, in order."""
        return self._values.get(key, [])

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def flag(self, key: str) -> bool | None:
        """A yes-or-no filter; None when it was not given.

        Raises:
            InvalidFilter: no boolean, or both.
        """
        given = self.values(key)
        if not given:
            return None
        answers = {True if value in _TRUE else False if value in _FALSE else None for value in given}
        if len(answers) != 1 or None in answers:
            raise InvalidFilter(key, given[0])
        return answers.pop()

    def until(self, now: datetime) -> datetime | None:
        """The `until` moment; None when not given.

        Raises:
            InvalidMoment: unreadable.
            InvalidFilter: given twice.
        """
        given = self.values("until")
        if len(given) > 1:
            raise InvalidFilter("until", given[1])
        return parse_moment(given[0], now) if given else None

    def labels(self, labels: Mapping[str, str]) -> bool:
        """Whether an object's labels pass `label` (all of them) and `label!` (none of them)."""
        return all(_has(labels, text) for text in self.values("label")) and not any(
            _has(labels, text) for text in self.values("label!")
        )


def _has(labels: Mapping[str, str], text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)
