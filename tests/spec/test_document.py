"""Strict JSON: what is refused at the door, and errors that say where."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import Invalid, LimitExceeded
from lamina.spec.digest import Digest
from lamina.spec.document import MAX_DEPTH, MAX_DOCUMENT, InvalidDocument, Node, dumps, parse


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"[]", "want an object, got array"),
        (b"null", "want an object, got null"),
        (b'"x"', "want an object, got string"),
        (b"7", "want an object, got number"),
        (b"{} {}", "Extra data"),
        (b"{}\0", "Extra data"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a": "\xff"}', "utf-8"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1e999}', "out of range"),
        (b"{'a': 1}", "Expecting property name"),
        (b'{"a": 1,}', ""),
        (b'{"a": "\n"}', "Invalid control character"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\\uDC00x"}', "surrogate"),
        (b'{"a": ' + b"9" * 5000 + b"}", ""),
    ],
)
def test_what_is_not_a_json_object_is_refused(raw: bytes, problem: str):
    with pytest.raises(InvalidDocument) as caught:
        parse(raw, "thing")
    assert caught.value.message.startswith("invalid thing: $: ")
    assert problem in caught.value.message


@pytest.mark.parametrize(
    "raw",
    [b'{"layers": [], "layers": [1]}', b'{"a": {"b": 1, "c": 2, "b": 3}}', b'{"a": [{"x": 1, "\\u0078": 2}]}'],
)
def test_duplicate_keys_are_refused_at_any_depth(raw: bytes):  # threat 12
    with pytest.raises(InvalidDocument, match="duplicate key"):
        parse(raw, "manifest")


def test_a_pair_of_surrogates_is_a_character():
    assert parse(b'{"a": "\\ud83d\\ude00"}', "thing") == {"a": "\U0001f600"}


def test_size_is_bounded():  # threat 14
    filler = b'{"a": "' + b"x" * (MAX_DOCUMENT - 9) + b'"}'
    assert len(filler) == MAX_DOCUMENT
    assert parse(filler, "manifest")
    with pytest.raises(LimitExceeded, match="exceed the limit"):
        parse(filler + b" ", "manifest")
    with pytest.raises(LimitExceeded):
        parse(b"{}   ", "manifest", limit=4)


@pytest.mark.parametrize("opening", [b'{"a":', b"["])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 5_000, 600_000])
def test_depth_is_bounded(opening: bytes, depth: int):  # threat 13
    closing = b"}" if opening != b"[" else b"]"
    with pytest.raises(InvalidDocument, match="nested"):
        parse(b'{"x":' + opening * depth + b"1" + closing * depth + b"}", "manifest")


def test_wide_is_not_deep():
    wide: dict[str, Any] = {"a": [{"b": []} for _ in range(1_000)]}
    assert parse(dumps(wide), "index") == wide
    deep: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 1):
        deep = {"a": deep}
    assert parse(dumps(deep), "index") == deep


def test_errors_carry_the_path_of_the_place():
    node = Node({"layers": [{}, {"digest": 7, "size": True}], "m": {"k": ["v"]}}, "manifest")
    second = list(node.at("layers").items())[1]
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: second.at("digest").string(), "invalid manifest: $.layers[1].digest: want a string, got number"),
        (lambda: second.at("size").integer(), "invalid manifest: $.layers[1].size: want an integer, got boolean"),
        (lambda: second.at("mediaType").string(), "invalid manifest: $.layers[1].mediaType: required"),
        (lambda: node.at("layers").object(), "invalid manifest: $.layers: want an object, got array"),
        (lambda: node.at("m").strings(), "invalid manifest: $.m: want an array, got object"),
        (lambda: node.at("m").string_map(), "invalid manifest: $.m.k: want a string, got array"),
        (lambda: node.at("layers").boolean(), "invalid manifest: $.layers: want a boolean, got array"),
        (lambda: second.at("size").at("x"), "invalid manifest: $.layers[1].size: want an object, got boolean"),
    ]
    for action, message in cases:
        with pytest.raises(InvalidDocument) as caught:
            action()
        assert caught.value.message == message
        assert caught.value.path == message.split(": ")[1]


def test_absent_and_null_are_alike_and_give_defaults():
    for node in (Node({}, "x").at("k"), Node({"k": None}, "x").at("k")):
        assert node.string("d") == "d"
        assert node.integer(3) == 3
        assert node.boolean() is False
        assert node.strings() == ()
        assert node.object() == {}
        assert node.string_map() == {}
    assert "k" not in Node({"k": None}, "x")
    assert "k" in Node({"k": 0}, "x")


def test_null_in_a_map_of_strings_is_empty():
    assert Node({"k": None, "l": "v"}, "x").string_map() == {"k": "", "l": "v"}


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1, 10**40])
def test_integers_are_those_of_64_bits(number: int):
    with pytest.raises(InvalidDocument, match="out of range"):
        Node(number, "x").integer()


def test_floats_are_no_integers():
    with pytest.raises(InvalidDocument, match="want an integer"):
        Node(1.0, "x").integer()


def test_counts_are_bounded_where_asked():
    with pytest.raises(InvalidDocument, match="3 elements exceed the limit of 2"):
        list(Node([1, 2, 3], "x").items(limit=2))


def test_a_parsers_refusal_gains_the_path():
    with pytest.raises(InvalidDocument) as caught:
        Node("md5:x", "index", "$.manifests[0].digest").parse_with(Digest.parse)
    assert caught.value.path == "$.manifests[0].digest"
    assert isinstance(caught.value, Invalid)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), _json, max_size=5))
def test_what_is_written_reads_back(value: dict[str, Any]):
    raw = dumps(value)
    assert parse(raw, "thing") == value
    assert json.loads(raw) == value
    assert dumps(parse(raw, "thing")) == raw


@given(st.binary(max_size=60))
def test_arbitrary_bytes_never_escape_as_another_error(raw: bytes):
    try:
        assert isinstance(parse(raw, "thing"), dict)
    except (InvalidDocument, LimitExceeded):
        pass
