"""List output: tables, templates, JSON lines; inspect output (C53, S16, S38)."""

from __future__ import annotations

from typing import Any

import pytest

from lamina.cli.format import inspecting
from lamina.cli.format.formatter import Column, Formatter, columns
from lamina.cli.format.gojson import marshal
from lamina.cli.format.gotemplate.errors import TemplateError, TemplateExecError
from lamina.cli.format.table import table

ROWS = [
    {"repo": "nginx", "tag": "latest", "id": "743f2d6c1f65", "labels": {"com.example.stage": "dev"}},
    {"repo": "<none>", "tag": "<none>", "id": "50644c29ef5a", "labels": {}},
]


def formatter() -> Formatter[dict[str, Any]]:
    return Formatter(
        "formatter.ImageContext",
        [
            *columns(
                ID=("IMAGE ID", lambda row: row["id"]),
                Repository=("REPOSITORY", lambda row: row["repo"]),
                Tag=("TAG", lambda row: row["tag"]),
            ),
            Column("Label", "", lambda row, name: row["labels"].get(name, ""), method=True),
        ],
        default=r"table {{.Repository}}\t{{.Tag}}\t{{.ID}}",
    )


def test_the_default_table() -> None:
    assert formatter().render(ROWS) == (
        "REPOSITORY   TAG       IMAGE ID\nnginx        latest    743f2d6c1f65\n<none>       <none>    50644c29ef5a\n"
    )


def test_a_table_without_rows_still_has_its_header() -> None:  # C53
    assert formatter().render([]) == "REPOSITORY   TAG       IMAGE ID\n"
    assert formatter().render([], "table") == "REPOSITORY   TAG       IMAGE ID\n"


def test_a_table_template_and_its_header() -> None:
    out = formatter().render(ROWS[:1], r"table {{upper .Repository}}\t{{.ID | printf `%s!`}}")
    assert out == "REPOSITORY   IMAGE ID!\nNGINX        743f2d6c1f65!\n"


def test_a_raw_template_prints_a_line_per_row_and_no_header() -> None:
    assert formatter().render(ROWS, r"{{.Repository}}:{{.Tag}}\t{{.ID}}") == (
        "nginx:latest\t743f2d6c1f65\n<none>:<none>\t50644c29ef5a\n"
    )
    assert formatter().render([], "{{.ID}}") == ""


def test_quiet_prints_ids() -> None:
    assert formatter().render(ROWS, quiet=True) == "743f2d6c1f65\n50644c29ef5a\n"


def test_json_is_one_sorted_object_per_line_with_html_escapes() -> None:
    assert formatter().render(ROWS[1:], "json") == (
        '{"ID":"50644c29ef5a","Repository":"\\u003cnone\\u003e","Tag":"\\u003cnone\\u003e"}\n'
    )


def test_a_method_column_takes_an_argument() -> None:
    assert formatter().render(ROWS[:1], '{{.Label "com.example.stage"}}') == "dev\n"
    assert formatter().render(ROWS[:1], 'table {{.Label "com.example.stage"}}') == "stage\ndev\n"


def test_errors_keep_go_s_text_and_docker_s_status() -> None:
    with pytest.raises(TemplateError, match="unclosed action") as syntax:
        formatter().render(ROWS, "{{.ID")
    assert syntax.value.exit_status == 1  # the inspect commands exit with 64, the lists do not
    with pytest.raises(TemplateExecError) as execution:
        formatter().render(ROWS, "{{.Nope}}")
    assert "can't evaluate field Nope in type formatter.ImageContext" in str(execution.value)


def test_columns_are_ended_by_lines_that_lack_them() -> None:
    assert table([("a", "b"), ("longer than ten", "c"), ("x",), ("d", "e")]) == (
        "a                 b\nlonger than ten   c\nx\nd         e\n"
    )


def test_inspect_is_an_array_with_four_spaces_and_no_escapes() -> None:  # S38
    assert inspecting.render([{"Id": "sha256:1", "Cmd": ["<a>"], "Empty": {}, "None": None}]) == (
        '[\n    {\n        "Id": "sha256:1",\n        "Cmd": [\n            "<a>"\n        ],\n'
        '        "Empty": {},\n        "None": null\n    }\n]\n'
    )
    assert inspecting.render([]) == "[]\n"


def test_inspect_templates_know_go_names_and_json_names_and_are_case_sensitive() -> None:  # S38
    image = {"Id": "sha256:1", "RepoTags": ["a:1", "b:2"]}
    names = {"ID": "Id"}
    assert inspecting.render([image], "{{.ID}} {{.Id}} {{json .RepoTags}}", go_names=names) == (
        'sha256:1 sha256:1 ["a:1","b:2"]\n'
    )
    with pytest.raises(TemplateExecError) as caught:
        inspecting.render([image], "{{.id}}", go_names=names)
    assert str(caught.value) == (
        'template parsing error: template: :1:2: executing "" at <.id>: map has no entry for key "id"'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.1, "0.1"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (-0.5, "-0.5"),
        ("\u2028<&>", '"\\u2028<&>"'),
        ('a\x01\t"\\', '"a\\u0001\\t\\"\\\\"'),
        (True, "true"),
        ([], "[]"),
    ],
)
def test_go_json(value: object, text: str) -> None:
    assert marshal(value) == text
