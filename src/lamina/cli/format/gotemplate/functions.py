"""The functions of a template: Go's builtins and docker's own (json, split, join, title, ...)."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lamina.cli.format.gojson import marshal
from lamina.cli.format.gotemplate.printf import sprint, sprintf, sprintln
from lamina.cli.format.gotemplate.values import TYPED_NIL, Struct, truth, type_name
from lamina.values import dataclass


class CallError(Exception):
    """A function refused its arguments; the evaluator adds `error calling NAME: `."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function with the Go types of its parameters (`any`, `string`, `int`, `[]string`).

    Attributes:
        call: the implementation.
        parameters: types of the fixed parameters.
        rest: type of the variadic tail, or None.
    """

    call: Callable[..., Any]
    parameters: tuple[str, ...] = ()
    rest: str | None = None


def _html(*values: Any) -> str:
    text = _as_text(values)
    # Order matters: the ampersands of the later entities must stay.
    for char, entity in (
        ("&", "&amp;"),
        ('"', "&#34;"),
        ("'", "&#39;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("\0", "\ufffd"),
    ):
        text = text.replace(char, entity)
    return text


_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _js(*values: Any) -> str:
    out = []
    for char in _as_text(values):
        if char in _JS:
            out.append(_JS[char])
        elif char < " " or not char.isprintable():
            out.append(f"\\u{ord(char):04X}")
        else:
            out.append(char)
    return "".join(out)


def _urlquery(*values: Any) -> str:
    return urllib.parse.quote_plus(_as_text(values), safe="-_.~", errors="surrogateescape")


def _as_text(values: tuple[Any, ...]) -> str:
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return sprint(*values)


def _len(value: Any) -> int:
    if value is None:
        raise CallError("reflect: call of reflect.Value.Type on zero Value")
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (list, tuple, Mapping)):
        return len(value)
    raise CallError(f"len of type {type_name(value)}")


def _offset(index: Any, size: int, *, inclusive: bool = False) -> int:
    if isinstance(index, bool) or not isinstance(index, int):
        if index is None:
            raise CallError("cannot index slice/array with nil")
        raise CallError(f"cannot index slice/array with type {type_name(index)}")
    if index < 0 or index > size or (index == size and not inclusive):
        raise CallError(f"index out of range: {index}")
    return index


def _index(item: Any, *indexes: Any) -> Any:
    if item is None:
        raise CallError("index of untyped nil")
    for index in indexes:
        if isinstance(item, str):
            raw = item.encode("utf-8", "surrogateescape")
            item = raw[_offset(index, len(raw))]
        elif isinstance(item, (list, tuple)):
            item = item[_offset(index, len(item))]
        elif isinstance(item, Mapping):
            if index is None:
                raise CallError("value is nil; should be of type string")
            if not isinstance(index, str):
                raise CallError(f"value has type {type_name(index)}; should be string")
            # A map[string]string answers with its zero value.
            strings = bool(item) and all(isinstance(value, str) for value in item.values())
            item = item.get(index, "" if strings else None)
        elif item is None or item is TYPED_NIL:
            raise CallError("index of nil pointer")
        else:
            raise CallError(f"can't index item of type {type_name(item)}")
    return item


def _slice(item: Any, *indexes: Any) -> Any:
    if item is None:
        raise CallError("slice of untyped nil")
    if len(indexes) > 3:
        raise CallError(f"too many slice indexes: {len(indexes)}")
    if isinstance(item, str):
        if len(indexes) == 3:
            raise CallError("cannot 3-index slice a string")
        raw: Any = item.encode("utf-8", "surrogateescape")
    elif isinstance(item, (list, tuple)):
        raw = item
    else:
        raise CallError(f"can't slice item of type {type_name(item)}")
    bounds = [0, len(raw), len(raw)]
    for position, index in enumerate(indexes):
        bounds[position] = _offset(index, len(raw), inclusive=True)
    if bounds[0] > bounds[1]:
        raise CallError(f"invalid slice index: {bounds[0]} > {bounds[1]}")
    if len(indexes) == 3 and bounds[1] > bounds[2]:
        raise CallError(f"invalid slice index: {bounds[1]} > {bounds[2]}")
    part = raw[bounds[0] : bounds[1]]
    return part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else part


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case complex():
            return "complex"
        case str():
            return "string"
        case _:
            return ""


def _equal(first: Any, second: Any) -> bool:
    if (first is None or first is TYPED_NIL) or (second is None or second is TYPED_NIL):
        return (first is None or first is TYPED_NIL) and (second is None or second is TYPED_NIL)
    if _kind(first) != _kind(second):
        raise CallError("incompatible types for comparison")
    for value in (first, second):
        if isinstance(value, (list, tuple, Mapping)):
            raise CallError(f"non-comparable type {sprintf('%s', value)}: {type_name(value)}")
    return bool(first == second)


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    return any(_equal(first, other) for other in others)


def _ne(first: Any, second: Any) -> bool:
    return not _equal(first, second)


def _lt(first: Any, second: Any) -> bool:
    kinds = [_kind(first), _kind(second)]
    if "" in kinds:
        raise CallError("invalid type for comparison")
    if kinds[0] != kinds[1]:
        raise CallError("incompatible types for comparison")
    if kinds[0] in {"bool", "complex"}:
        raise CallError("invalid type for comparison")
    return bool(first < second)


def _le(first: Any, second: Any) -> bool:
    return _lt(first, second) or _equal(first, second)


def _call(function: Any, *values: Any) -> Any:
    if function is None:
        raise CallError("call of nil")
    return function(*values)


def _title(text: str) -> str:
    """Go's strings.Title: the first letter of each word, words split as Go splits them."""
    out = []
    previous = " "
    for char in text:
        out.append(char if previous.isalnum() or previous == "_" or not _separates(previous) else char.title())
        previous = char
    return "".join(out)


def _separates(char: str) -> bool:
    return char.isspace() if ord(char) > 0x7F else not (char.isalnum() or char == "_")


def _pad(text: str, before: int, after: int) -> str:
    if not text:
        return text
    return " " * before + text + " " * after


def _truncate(text: str, length: int) -> str:
    if length < 0:
        raise CallError("slice bounds out of range")
    raw = text.encode("utf-8", "surrogateescape")
    return text if len(raw) < length else raw[:length].decode("utf-8", "surrogateescape")


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _join(items: Sequence[str], separator: str) -> str:
    return separator.join(items)


def _json(value: Any) -> str:
    return marshal(value)


_TWO = ("any", "any")

# `and` and `or` are here for their names and arity: the evaluator runs them, because they stop early.
FUNCTIONS: Mapping[str, Function] = {
    "and": Function(truth, ("any",), "any"),
    "or": Function(truth, ("any",), "any"),
    "not": Function(lambda value: not truth(value), ("any",)),
    "len": Function(_len, ("any",)),
    "index": Function(_index, ("any",), "any"),
    "slice": Function(_slice, ("any",), "any"),
    "print": Function(sprint, (), "any"),
    "printf": Function(sprintf, ("string",), "any"),
    "println": Function(sprintln, (), "any"),
    "html": Function(_html, (), "any"),
    "js": Function(_js, (), "any"),
    "urlquery": Function(_urlquery, (), "any"),
    "eq": Function(_eq, ("any",), "any"),
    "ne": Function(_ne, _TWO),
    "lt": Function(_lt, _TWO),
    "le": Function(_le, _TWO),
    "gt": Function(lambda a, b: not _le(a, b), _TWO),
    "ge": Function(lambda a, b: not _lt(a, b), _TWO),
    "call": Function(_call, ("any",), "any"),
    "json": Function(_json, ("any",)),
    "split": Function(_split, ("string", "string")),
    "join": Function(_join, ("[]string", "string")),
    "title": Function(_title, ("string",)),
    "lower": Function(lambda text: text.lower(), ("string",)),
    "upper": Function(lambda text: text.upper(), ("string",)),
    "pad": Function(_pad, ("string", "int", "int")),
    "truncate": Function(_truncate, ("string", "int")),
}

# In the header row of a table these leave column titles alone (docker's HeaderFunctions).
HEADER_FUNCTIONS: Mapping[str, Function] = {
    **FUNCTIONS,
    "json": Function(lambda value: value, ("any",)),
    "title": Function(lambda text: text, ("string",)),
    "lower": Function(lambda text: text, ("string",)),
    "upper": Function(lambda text: text, ("string",)),
    "truncate": Function(lambda text, _length: text, ("string", "int")),
    "join": Function(lambda value, _separator: value, ("any", "string")),
    "split": Function(lambda value, _separator: value, ("any", "string")),
}

__all__ = ["FUNCTIONS", "HEADER_FUNCTIONS", "CallError", "Function", "Struct"]
