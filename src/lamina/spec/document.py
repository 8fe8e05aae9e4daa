"""Strict JSON documents: bounded, no duplicate keys, typed access whose errors carry the JSON path.

Every spec value keeps the parsed document it came from, so that fields which lamina does not know survive, and the
bytes that were received stay the bytes that are hashed, stored and sent on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from lamina.errors import Invalid, LimitExceeded

#: Manifests and configs past this are refused everywhere (distribution-spec asks registries to accept 4 MiB).
MAX_DOCUMENT: Final = 4 << 20
MAX_DEPTH: Final = 200
_INT64: Final = range(-(1 << 63), 1 << 63)

T = TypeVar("T")


class InvalidDocument(Invalid):
    """A JSON document breaks its spec; `path` says where (`$.layers[2].digest`)."""

    def __init__(self, what: str, path: str, problem: str) -> None:
        super().__init__(f"invalid {what}: {path}: {problem}")
        self.what, self.path, self.problem = what, path, problem


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"duplicate key {twice!r}")
    return result


def parse(raw: bytes, what: str, *, limit: int = MAX_DOCUMENT) -> dict[str, Any]:
    """Parse bytes into a JSON object.

    Raises:
        LimitExceeded: longer than `limit` bytes.
        InvalidDocument: not UTF-8, not JSON, not an object, duplicate keys (threat 12), or nested past reason.
    """
    if len(raw) > limit:
        raise LimitExceeded(f"invalid {what}: {len(raw)} bytes exceed the limit of {limit}")
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constants, parse_float=_finite
        )
        if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
            raise InvalidDocument(what, "$", f"nested deeper than {MAX_DEPTH}")
        if b"\\ud" in raw or b"\\uD" in raw:
            dumps(value)  # half a surrogate pair is no text and could never be written again
    except RecursionError:
        raise InvalidDocument(what, "$", "nested too deeply") from None
    except UnicodeEncodeError:
        raise InvalidDocument(what, "$", "half of a surrogate pair in a string") from None
    except ValueError as error:
        raise InvalidDocument(what, "$", str(error)) from None
    if not isinstance(value, dict):
        raise InvalidDocument(what, "$", f"want an object, got {type_name(value)}")
    return value


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is out of range")
    return number


def _deeper(value: Any, limit: int) -> bool:
    """Whether arrays and objects nest past a limit; walked level by level, so that depth costs no stack."""
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def dumps(value: Any) -> bytes:
    """Canonical enough for reproducible digests: no blanks, keys in the order given, UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def type_name(value: Any) -> str:
    """The JSON name of a Python value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


class Node:
    """A cursor into a document: typed access with paths in errors. Cheap, made and thrown away while parsing."""

    __slots__ = ("path", "value", "what")

    def __init__(self, value: Any, what: str, path: str = "$") -> None:
        self.value, self.what, self.path = value, what, path

    def fail(self, problem: str) -> InvalidDocument:
        """The error for this place."""
        return InvalidDocument(self.what, self.path, problem)

    def __contains__(self, key: str) -> bool:
        return self.object().get(key) is not None

    def at(self, key: str) -> Node:
        """The member `key`; its value is None when absent."""
        return Node(self.object().get(key), self.what, f"{self.path}.{key}")

    def object(self) -> dict[str, Any]:
        """The value as an object; absent or null counts as empty."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.fail(f"want an object, got {type_name(self.value)}")
        return self.value

    def items(self, *, limit: int | None = None) -> Iterator[Node]:
        """The elements of an array; absent or null counts as empty."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.fail(f"want an array, got {type_name(self.value)}")
        if limit is not None and len(self.value) > limit:
            raise self.fail(f"{len(self.value)} elements exceed the limit of {limit}")
        for index, value in enumerate(self.value):
            yield Node(value, self.what, f"{self.path}[{index}]")

    def string(self, default: str | None = None) -> str:
        """A string; absent gives the default, or an error when there is none."""
        if self.value is None and default is not None:
            return default
        if not isinstance(self.value, str):
            raise self.fail("required" if self.value is None else f"want a string, got {type_name(self.value)}")
        return self.value

    def integer(self, default: int | None = None) -> int:
        """A whole number of 64 bits, as every other implementation holds it."""
        if self.value is None and default is not None:
            return default
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.fail("required" if self.value is None else f"want an integer, got {type_name(self.value)}")
        if self.value not in _INT64:
            raise self.fail("out of range")
        return self.value

    def boolean(self, default: bool = False) -> bool:
        """A boolean."""
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            raise self.fail(f"want a boolean, got {type_name(self.value)}")
        return self.value

    def strings(self) -> tuple[str, ...]:
        """An array of strings."""
        return tuple(node.string() for node in self.items())

    def string_map(self) -> Mapping[str, str]:
        """An object whose values are strings; null counts as "", as in Go."""
        return {key: self.at(key).string("") for key in self.object()}

    def parse_with(self, parser: Callable[[str], T]) -> T:
        """A string given to a parser; its `Invalid` becomes an error with this path."""
        text = self.string()
        try:
            return parser(text)
        except InvalidDocument:
            raise
        except Invalid as error:
            raise self.fail(error.message) from None
