"""How Python values stand for Go values: type names, truth, fields and typed nil.

| Python | Go |
|---|---|
| None | an interface without a value (prints `<no value>`; `<nil>` from a struct's field) |
| bool, int, float, str | bool, int, float64, string |
| list, tuple of str | []string |
| other list, tuple | []interface {} |
| dict | map[string]interface {} |
| `Struct` | a struct or a formatter context: fields by exact name, callables are methods |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any


class Struct:
    """A value with a fixed, ordered set of fields, looked up by exact name.

    A field whose value is callable is a method: called without arguments by `.Name`, with them by `.Label "k"`.

    Args:
        type_name: Go's name for the type, quoted in errors (`formatter.ImageContext`).
        fields: name to value or callable.
        json_names: only these fields appear in JSON, under these names; default: all non-methods, as named.
        methods: names of callables that take arguments (left out of JSON and of printing).
        marshals_itself: the Go type has a MarshalJSON; its JSON escapes HTML even inside a template's `json`.
    """

    __slots__ = ("_fields", "_methods", "json_names", "marshals_itself", "type_name")

    def __init__(
        self,
        type_name: str,
        fields: Mapping[str, Any],
        *,
        json_names: Mapping[str, str] | None = None,
        methods: Iterable[str] = (),
        marshals_itself: bool = False,
    ) -> None:
        self.type_name = type_name
        self._fields = fields
        self.json_names = json_names
        self._methods = frozenset(methods)
        self.marshals_itself = marshals_itself

    def has(self, name: str) -> bool:
        """Whether the field exists."""
        return name in self._fields

    def raw(self, name: str) -> Any:
        """The field or, for a method, the callable."""
        return self._fields[name]

    def get(self, name: str) -> Any:
        """The field's value, calling a method without arguments."""
        value = self._fields[name]
        return value() if callable(value) else value

    def names(self) -> list[str]:
        """Names of the fields that have values of their own."""
        return [name for name in self._fields if name not in self._methods]

    def as_json(self) -> dict[str, Any]:
        """Field values under their JSON names."""
        if self.json_names is not None:
            return {shown: self.get(name) for name, shown in self.json_names.items()}
        return {name: self.get(name) for name in self.names()}


class _TypedNil:
    """A nil pointer: prints `<nil>`, is false, is null in JSON."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<nil>"

    def __bool__(self) -> bool:
        return False


TYPED_NIL = _TypedNil()


class _NilList(list[Any]):
    """A slice that is nil: prints `[]`, is null in JSON."""


class _NilMap(dict[str, Any]):
    """A map that is nil: prints `map[]`, is null in JSON."""


NIL_LIST = _NilList()
NIL_MAP = _NilMap()


def type_name(value: object) -> str:
    """Go's name of the value's type."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float64"
        case complex():
            return "complex128"
        case str():
            return "string"
        case list() | tuple():
            return "[]string" if is_string_list(value) else "[]interface {}"
        case dict():
            return "map[string]interface {}"
        case Struct():
            return value.type_name
        case _:
            return "interface {}" if value is TYPED_NIL else "func()" if callable(value) else type(value).__name__


def is_string_list(value: object) -> bool:
    """Whether a list can be Go's []string."""
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(item, str) for item in value)


def truth(value: object) -> bool:
    """Go's truth: a struct is true, everything empty or zero is false."""
    return True if isinstance(value, Struct) else bool(value)


Method = Callable[..., Any]
