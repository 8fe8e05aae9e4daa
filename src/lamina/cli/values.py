"""The kinds of flag value: how each is parsed, shown in help, and what it is when absent.

The words (`string`, `list`, `bytes`, ...) and the error texts are docker's (pflag and Go's strconv), so that help
pages and complaints read the same (S18, S29).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lamina.values import dataclass, replace

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value.

    Attributes:
        word: shown after the flag in help; "" for booleans.
        parse: text to value; raises ValueError with the message that follows `invalid argument "x" for ...: `.
        zero: the value when the flag is absent.
        repeats: each use adds one item (or several, if `parse` returns a tuple and `splits`) to a tuple.
        splits: `parse` returns a tuple of items.
        bare: text assumed when the flag stands alone (`--rm`); None when it needs an argument.
        empty_text: default shown in help although the value is empty (docker prints `(default [])` for some).
    """

    word: str
    parse: Callable[[str], Any]
    zero: Any
    repeats: bool = False
    splits: bool = False
    bare: str | None = None
    empty_text: str = ""

    def named(self, word: str, *, empty_text: str | None = None) -> Kind:
        """The same kind under another word in help (`--filter filter`)."""
        return replace(self, word=word, empty_text=self.empty_text if empty_text is None else empty_text)

    def checked(self, check: Callable[[str], Any]) -> Kind:
        """The same kind with another parser; it may return another type."""
        return replace(self, parse=check)


def parse_bool(text: str) -> bool:
    """Go's strconv.ParseBool (S29: `--no-cache=True`)."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(_strconv("ParseBool", text, "invalid syntax"))


def _strconv(function: str, text: str, reason: str) -> str:
    from lamina.cli.format.gotemplate.printf import quote

    return f"strconv.{function}: parsing {quote(text)}: {reason}"


def _integer(function: str, low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        from lamina.cli.format.gotemplate.constants import integer_literal

        value = integer_literal(text)
        if value is None or (low == 0 and text[:1] in {"+", "-"}):
            raise ValueError(_strconv(function, text, "invalid syntax"))
        if not low <= value <= high:
            raise ValueError(_strconv(function, text, "value out of range"))
        return value

    return parse


def parse_bytes(text: str) -> int:
    """`512m` to bytes."""
    from lamina.cli.format.units import parse_size

    return parse_size(text)


def parse_swap(text: str) -> int:
    """As `parse_bytes`; `-1` is unlimited."""
    return -1 if text == "-1" else parse_bytes(text)


def parse_duration(text: str) -> int:
    """Go duration to nanoseconds."""
    from lamina.cli.format import units

    return units.parse_duration(text)


def parse_cpus(text: str) -> int:
    """`1.5` CPUs to nano-CPUs (docker's NanoCPUs).

    Raises:
        ValueError: not a number, or finer than a billionth.
    """
    from fractions import Fraction

    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    nano = value * 10**9
    if nano.denominator != 1:
        raise ValueError("value is too precise")
    return int(nano)


def parse_filter(text: str) -> tuple[tuple[str, str], ...]:
    """`label=stage=test` to (`label`, `stage=test`); docker lower-cases and strips the key, and takes "" for none."""
    if not text:
        return ()
    if "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    name, _, value = text.partition("=")
    return ((name.strip().lower(), value.strip()),)


def parse_pair(text: str) -> tuple[str, str]:
    """`key=value`, or `key` with an empty value, to a pair."""
    key, _, value = text.partition("=")
    return key, value


def parse_csv(text: str) -> tuple[str, ...]:
    """One CSV record (pflag's stringSlice): `a,"b,c"` to (`a`, `b,c`)."""
    import csv

    if not text:
        return ()
    try:
        return tuple(next(csv.reader([text], strict=True)))
    except csv.Error as error:
        raise ValueError(str(error)) from None


def parse_variable(text: str) -> str:
    """`NAME=value`, or `NAME` alone; docker refuses a variable without a name."""
    if text.startswith("=") or not text:
        raise ValueError(f"invalid environment variable: {text}")
    return text


BOOL = Kind("", parse_bool, False, bare="true")
STRING = Kind("string", str, "")
INT = Kind("int", _integer("ParseInt", -(2**63), 2**63 - 1), 0)
UINT = Kind("uint", _integer("ParseUint", 0, 2**64 - 1), 0)
UINT16 = Kind("uint16", _integer("ParseUint", 0, 2**16 - 1), 0)
BYTES = Kind("bytes", parse_bytes, 0)
SWAP = Kind("bytes", parse_swap, 0)
DURATION = Kind("duration", parse_duration, 0)
CPUS = Kind("decimal", parse_cpus, 0)
LIST = Kind("list", str, (), repeats=True)
STRINGS = Kind("strings", parse_csv, (), repeats=True, splits=True)
ENV = LIST.checked(parse_variable)
MAP = Kind("map", parse_pair, (), repeats=True, empty_text="map[]")
FILTER = Kind("filter", parse_filter, (), repeats=True, splits=True)
