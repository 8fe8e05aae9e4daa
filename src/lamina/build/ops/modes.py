"""`--chmod`: octal or symbolic modes (D26; POSIX chmod, section EXTENDED DESCRIPTION)."""

from __future__ import annotations

import re
from collections.abc import Callable

from lamina.errors import Invalid

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])(?=[-+=]|$)")
_SHIFT = {"u": 6, "g": 3, "o": 0}

#: (current permission bits, is a directory) -> new permission bits.
ModeChange = Callable[[int, bool], int]


class InvalidMode(Invalid):
    """The text is no mode."""

    def __init__(self, text: str) -> None:
        super().__init__(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
        self.text = text


def parse_mode(text: str) -> ModeChange:
    """Read a mode; the result maps the bits an entry has to those it gets.

    Raises:
        InvalidMode: neither octal within 0..07777 nor symbolic.
    """
    if text and text[0].isdigit():
        if not re.fullmatch(r"[0-7]{1,5}", text) or int(text, 8) > 0o7777:
            raise InvalidMode(text)
        fixed = int(text, 8)
        return lambda _bits, _directory: fixed
    clauses = text.split(",")
    if not text or not all(_CLAUSE.fullmatch(clause) for clause in clauses):
        raise InvalidMode(text)

    def change(bits: int, directory: bool) -> int:
        for clause in clauses:
            who = clause[: len(clause) - len(clause.lstrip("ugoa"))] or "a"
            for operator, what in _ACTION.findall(clause.lstrip("ugoa")):
                bits = _apply(bits, set("ugo" if "a" in who else who), operator, what, directory)
        return bits

    return change


def _apply(bits: int, who: set[str], operator: str, what: str, directory: bool) -> int:
    value = mask = 0
    for one in who:
        triple = _triple(bits, what, directory) << _SHIFT[one]
        value |= triple
        mask |= 0o7 << _SHIFT[one]
        special = 0o4000 if one == "u" else 0o2000 if one == "g" else 0
        if special:
            mask |= special
            value |= special if "s" in what and what not in {"u", "g", "o"} else 0
    if "t" in what:
        value |= 0o1000
    if operator == "+":
        return bits | value
    if operator == "-":
        return bits & ~value
    return (bits & ~(mask | (0o1000 if "o" in who and "t" not in what else 0))) | value


def _triple(bits: int, what: str, directory: bool) -> int:
    if what in _SHIFT:
        return (bits >> _SHIFT[what]) & 0o7
    triple = (0o4 if "r" in what else 0) | (0o2 if "w" in what else 0) | (0o1 if "x" in what else 0)
    if "X" in what and (directory or bits & 0o111):
        triple |= 0o1
    return triple
