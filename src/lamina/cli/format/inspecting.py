"""Output of the inspect commands: a JSON array with 4-space indent, or a template per object (S38, C53)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lamina.cli.format.gojson import marshal

if TYPE_CHECKING:
    from lamina.cli.format.gotemplate.template import Template


def render(objects: Sequence[Any], format: str = "", *, go_names: Mapping[str, str] | None = None) -> str:
    """The text that inspect prints.

    Args:
        objects: JSON objects (dicts in docker's key order) or `Struct`s.
        format: "" for the array, `json` for a compact one-line array, else a template run once per object.
        go_names: Go field name to JSON key where they differ (`{"ID": "Id"}`). Docker first tries its typed struct
            and then the raw JSON, so `{{.ID}}` and `{{.Id}}` both work while `{{.id}}` is an error.

    Raises:
        TemplateError: the template is malformed or names a missing key.
    """
    if format == "":
        return "[]\n" if not objects else marshal(objects, indent=4) + "\n"
    if format == "json":
        return marshal(objects) + "\n"
    from lamina.cli.format.gotemplate.template import parse

    parsed = parse(format)
    return "".join(_executed(parsed, value, go_names or {}) + "\n" for value in objects)


def _executed(template: Template, value: Any, aliases: Mapping[str, str]) -> str:
    from lamina.cli.format.gotemplate.errors import TemplateExecError
    from lamina.cli.format.gotypes import typed

    if not isinstance(value, Mapping):
        return template.execute(value, missing_key_is_error=True)
    try:
        return template.execute(_Aliased(typed(value), aliases), missing_key_is_error=True)
    except TemplateExecError:
        return template.execute(_Aliased(value, aliases), missing_key_is_error=True)


class _Aliased(dict[str, Any]):
    """A JSON object that also answers to Go's field names; iteration and JSON show only the real keys."""

    def __init__(self, raw: Mapping[str, Any], aliases: Mapping[str, str]) -> None:
        super().__init__(raw)
        self._aliases = aliases

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (
            isinstance(key, str) and key in self._aliases and super().__contains__(self._aliases[key])
        )

    def __missing__(self, key: str) -> Any:
        if key in self._aliases:
            return self[self._aliases[key]]
        raise KeyError(key)
