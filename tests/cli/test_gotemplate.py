"""Templates against Go itself: each vector is what Go's text/template (with docker's functions) printed (C53, S38).

The vectors were made by running 292 templates through Go 1.26 over a struct and over a map with missingkey=error.
"""

from __future__ import annotations

import json
import pathlib
import re

import pytest

from lamina.cli.format.gotemplate.errors import TemplateError, TemplateExecError, TemplateSyntaxError
from lamina.cli.format.gotemplate.template import parse
from lamina.cli.format.gotemplate.values import Struct

VECTORS = [
    json.loads(line)
    for line in (pathlib.Path(__file__).parent / "data" / "gotemplate_vectors.jsonl").read_text("utf-8").split("\n")
    if line
]

# Differences that stay, each with its reason.
KNOWN = {
    ("map", '{{index .Labels "nope"}}'): "a dict of strings is taken for map[string]string, whose zero value is empty",
    ("struct", "{{.Nil.Host}}"): "a nil here does not know the Go type it would point to",
    ("struct", "{{json .}}"): "an empty list is a list; Go's nil slice is null",
    ("struct", "{{print .Empty}} {{len .Empty}} {{json .Empty}}"): "an empty list is a list; Go's nil slice is null",
}


def host(address: str, skip: bool) -> Struct:
    return Struct("main.Host", {"Host": address, "Skip": skip})


def thing() -> Struct:
    labels = {"z": "26", "a": "1"}

    def label(key: str) -> str:
        return labels.get(key, "")

    return Struct(
        "main.Thing",
        {
            "Name": "web",
            "Size": 42,
            "Ratio": 1.5,
            "On": True,
            "Tags": ["a", "b"],
            "Labels": dict(sorted(labels.items())),
            "Ends": {"docker": host("unix:///x", False), "n": None},
            "Host": host("h", True),
            "Nil": None,
            "Empty": [],
            "Label": label,
        },
        methods=["Label"],
    )


def mapping() -> dict[str, object]:
    return {
        "Deep": {"er": {"x": "y"}},
        "Labels": {"a": "1", "z": "26"},
        "Name": "web",
        "Null": None,
        "On": True,
        "Ratio": 1.5,
        "Size": 42,
        "Tags": ["a", "b", 3],
    }


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['data']}:{vector['template']}"[:70])
def test_prints_what_go_prints(vector: dict[str, str]) -> None:
    reason = KNOWN.get((vector["data"], vector["template"]))
    caught: type[TemplateError] | None = None
    try:
        value = thing() if vector["data"] == "struct" else mapping()
        output = parse(vector["template"]).execute(value, missing_key_is_error=vector["data"] == "map")
        error = ""
    except TemplateError as failure:
        output, error = "", failure.detail
        caught = type(failure)
    kind = TemplateSyntaxError if vector.get("parse") else TemplateExecError if vector["error"] else None
    assert caught is kind
    if reason:
        assert (output, error) != (vector["output"], vector["error"]), "listed as different, but is the same"
        return
    # Go 1.26 names the two types after this message; docker 28.2.2 is built with 1.24, which does not.
    expected = re.sub(r"(incompatible types for comparison): .*", r"\1", vector["error"])
    assert (output, error) == (vector["output"], expected)
