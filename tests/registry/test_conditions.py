"""Range and If-None-Match as RFC 9110 has them (R03)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.registry.api.conditions import byte_range, matches
from lamina.registry.errors import RangeUnsatisfiable


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=2-4", (2, 3)),
        ("bytes=5-", (5, 5)),
        ("bytes=-3", (7, 3)),
        ("bytes=-99", (0, 10)),
        ("bytes=5-99", (5, 5)),
        ("bytes = 5-6", (5, 2)),
        ("bytes=0-1,3-4", None),
        ("lines=1-2", None),
        ("bytes=-", None),
        ("bytes=x-y", None),
    ],
)
def test_ranges_of_ten_bytes(header: str | None, part: tuple[int, int] | None) -> None:
    assert byte_range(header, 10) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=4-2"])
def test_ranges_past_the_end(header: str) -> None:
    with pytest.raises(RangeUnsatisfiable):
        byte_range(header, 10)


@given(st.text(alphabet="bytes=-0123456789,", max_size=30), st.integers(0, 100))
def test_a_range_lies_within_the_blob(header: str, size: int) -> None:
    try:
        part = byte_range("bytes=" + header, size)
    except RangeUnsatisfiable:
        return
    if part is not None:
        first, count = part
        assert 0 <= first and 0 < count and first + count <= size


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("a", False)],
)
def test_entity_tags(header: str | None, expected: bool) -> None:
    assert matches(header, '"a"') is expected
