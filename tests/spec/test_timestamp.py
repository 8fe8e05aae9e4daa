"""Instants: RFC 3339 as Docker writes it, and everything else refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import Invalid
from lamina.spec.timestamp import EPOCH, ZERO, parse_rfc3339, rfc3339, utc_now


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.5Z", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456789Z", datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-01-31T12:00:00.0000000000001Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T12:00:00-05:30", datetime(2026, 1, 31, 17, 30, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),  # a leap second
        (ZERO, datetime(1, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00+01:00", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_what_rfc3339_allows(text: str, moment: datetime):
    assert parse_rfc3339(text) == moment
    assert parse_rfc3339(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-01-31", "2026-01-31T12:00Z", "2026-01-31T12:00:00", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z",
        "2026-01-31T24:00:00Z", "2026-01-31T12:60:00Z", "2026-01-31T12:00:61Z", "2026-01-31T12:00:99Z",
        "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+99:99", "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00Z\n",
        "٢٠٢٦-01-31T12:00:00Z", "20260131T120000Z", "9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_what_it_does_not(text: str):
    with pytest.raises(Invalid, match="invalid time"):
        parse_rfc3339(text)


def test_the_written_form_is_dockers():
    assert rfc3339(EPOCH) == "1970-01-01T00:00:00Z"
    assert rfc3339(datetime(2026, 1, 2, 3, 4, 5, 120_000, tzinfo=UTC)) == "2026-01-02T03:04:05.12Z"
    assert rfc3339(datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-02T01:04:05Z"
    assert rfc3339(datetime(1, 1, 1, tzinfo=UTC)) == ZERO


def test_the_clock_is_utc():
    assert utc_now().tzinfo is UTC


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.timezones() | st.just(UTC)))
def test_instants_round_trip(moment: datetime):
    text = rfc3339(moment)
    assert parse_rfc3339(text) == moment.astimezone(UTC)
    assert rfc3339(parse_rfc3339(text)) == text


@given(st.text(max_size=30))
def test_arbitrary_text_never_escapes_as_another_error(text: str):
    try:
        parse_rfc3339(text)
    except Invalid:
        pass
