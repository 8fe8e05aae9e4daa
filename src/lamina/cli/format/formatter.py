r"""`--format` of the list commands: `table`, `table TEMPLATE`, `json`, TEMPLATE, and `-q` (C53).

A noun describes its columns once; every form of output comes from that.

    COLUMNS = columns(ID=("IMAGE ID", short), Repository=("REPOSITORY", lambda row: row.repository), ...)
    formatter = Formatter("formatter.imageContext", COLUMNS, default="table {{.Repository}}\t{{.ID}}")
    stdout.write(formatter.render(rows, options.format))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from lamina.values import dataclass

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class Column(Generic[RowT]):
    """One placeholder of a list command.

    Attributes:
        name: as in the template (`Repository`).
        header: as in the table's first line (`REPOSITORY`).
        value: the cell of a row; any template value, usually str.
        method: called as `value(row, argument)` by `{{.Label "key"}}`; has no cell of its own.
    """

    name: str
    header: str
    value: Callable[..., Any]
    method: bool = False


class Formatter(Generic[RowT]):
    """Renders rows.

    Args:
        type_name: Go's type in error texts (`formatter.ImageContext`).
        columns: the placeholders.
        default: the template behind `table` (with `table ` in front).
        quiet: the template behind `-q`.
    """

    def __init__(
        self, type_name: str, columns: Sequence[Column[RowT]], *, default: str, quiet: str = "{{.ID}}"
    ) -> None:
        self._type_name = type_name
        self._columns = {column.name: column for column in columns}
        self._default = default
        self._quiet = quiet

    def render(self, rows: Iterable[RowT], format: str = "", *, quiet: bool = False) -> str:
        """The text to print, with its final newline.

        Args:
            rows: what to list.
            format: the value of `--format`; "" means `table`.
            quiet: `-q`; docker lets it win over the default table, and over `table` forms by the id alone.

        Raises:
            TemplateError: the template is malformed or does not fit.
        """
        chosen = format.strip() if format.strip() in {"table", "json", ""} else format
        if chosen in {"", "table"}:
            chosen = self._quiet if quiet else self._default
        if chosen == "json":
            from lamina.cli.format.gojson import marshal

            return "".join(marshal(self._json_row(row), escape_html=True) + "\n" for row in rows)
        is_table = chosen.startswith("table")
        template = unescape(chosen.removeprefix("table").strip() if is_table else chosen)
        return self._run(template, rows, header=is_table)

    def _run(self, template: str, rows: Iterable[RowT], *, header: bool) -> str:
        from lamina.cli.format.gotemplate.errors import TemplateError, TemplateSyntaxError
        from lamina.cli.format.gotemplate.functions import HEADER_FUNCTIONS
        from lamina.cli.format.gotemplate.template import parse
        from lamina.cli.format.table import align

        try:
            parsed = parse(template)
        except TemplateSyntaxError as error:
            # The inspect commands exit with 64 then, the lists with 1.
            raise TemplateError(error.detail) from None
        body = "".join(parsed.execute(self._struct(row)) + "\n" for row in rows)
        if not header:
            return body
        # `{{.Label "x"}}` is headed by the last part of its key, as docker does.
        titles: Mapping[str, Any] = {
            column.name: _label_title if column.method else column.header for column in self._columns.values()
        }
        from lamina.cli.format.gotemplate.values import Struct

        first = parsed.execute(Struct(self._type_name, titles), functions=HEADER_FUNCTIONS)
        return align(first + "\n" + body)

    def _struct(self, row: RowT) -> Any:
        from lamina.cli.format.gotemplate.values import Struct

        def bound(column: Column[RowT]) -> Callable[..., Any]:
            if column.method:
                return lambda argument: column.value(row, argument)
            return lambda: column.value(row)

        fields = {column.name: bound(column) for column in self._columns.values()}
        methods = [column.name for column in self._columns.values() if column.method]
        names = {name: name for name in sorted(fields) if name not in methods}
        return Struct(self._type_name, fields, json_names=names, methods=methods, marshals_itself=True)

    def _json_row(self, row: RowT) -> dict[str, Any]:
        # Go marshals a map here: keys sorted.
        return {name: column.value(row) for name, column in sorted(self._columns.items()) if not column.method}


def _label_title(argument: str) -> str:
    last = argument.rpartition(".")[2]
    return " ".join(word for word in last.replace("-", " ").replace("_", " ").split(" "))


def columns(**named: tuple[str, Callable[[Any], Any]]) -> tuple[Column[Any], ...]:
    """Columns from `Name=(header, function)` pairs."""
    return tuple(Column(name, header, value) for name, (header, value) in named.items())


def unescape(template: str) -> str:
    r"""`\t` and `\n` typed in a shell become a tab and a newline, as in every list command of docker."""
    return template.replace(r"\t", "\t").replace(r"\n", "\n")
