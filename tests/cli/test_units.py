"""Docker's units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cli.format import units


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1, "1B"),
        (999, "999B"),
        (1000, "1kB"),
        (1023, "1.023kB"),
        (2048, "2.048kB"),
        (84480, "84.48kB"),  # S27
        (109_000_000, "109MB"),
        (689_300_000, "689.3MB"),
        (2_973_000_000, "2.973GB"),  # S45
        (999_999, "1000kB"),  # go-units: %.4g of 999.999
        (10**24, "1YB"),
    ],
)
def test_human_size(size: int, text: str) -> None:
    assert units.human_size(size) == text


@pytest.mark.parametrize(
    ("size", "text"), [(108_904_123, "109MB"), (7_380_000, "7.38MB"), (1_234, "1.23kB"), (133_000_000, "133MB")]
)
def test_image_sizes_have_three_digits(size: int, text: str) -> None:  # S16
    assert units.human_size_3(size) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (1024, "1KiB"), (32 << 20, "32MiB"), (1_572_864, "1.5MiB"), (3 << 30, "3GiB")]
)
def test_bytes_size(size: int, text: str) -> None:
    assert units.bytes_size(size) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("100", 100),
        ("100b", 100),
        ("1k", 1024),
        ("512m", 512 << 20),
        ("512M", 512 << 20),
        ("1g", 1 << 30),
        ("1.5GiB", 3 << 29),
        ("1 gb", 1 << 30),
        (".5k", 512),
        ("2t", 2 << 40),
    ],
)
def test_parse_size(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "abc", "-1", "1x", "1 k b", "1kk", "0x10", " 1", "k"])
def test_bad_sizes_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size: '"):
        units.parse_size(text)


def test_decimal_sizes_count_in_thousands() -> None:
    assert units.parse_decimal_size("10GB") == 10 * 10**9


HOUR = 3600
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (45, "45 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (3 * 60, "3 minutes"),
        (HOUR, "About an hour"),
        (7 * HOUR, "7 hours"),  # S16
        (45 * HOUR, "45 hours"),
        (3 * DAY, "3 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (700 * DAY, "23 months"),
        (730 * DAY, "2 years"),
        (10 * 365 * DAY, "10 years"),
    ],
)
def test_human_duration(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1h30m", 5_400_000_000_000),
        ("-1.5s", -1_500_000_000),
        ("+100ms", 100_000_000),
        ("1us", 1_000),
        ("1µs", 1_000),
        (".5s", 500_000_000),
        ("1m0.5s", 60_500_000_000),
    ],
)
def test_parse_duration(text: str, nanoseconds: int) -> None:
    assert units.parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("a", 'time: invalid duration "a"'),
        ("5", 'time: missing unit in duration "5"'),
        ("5q", 'time: unknown unit "q" in duration "5q"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("300000h" * 20, "time: invalid duration"),
    ],
)
def test_bad_durations_have_go_s_words(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        units.parse_duration(text)
    assert str(caught.value).startswith(message)


@given(st.integers(min_value=-(2**62), max_value=2**62))
def test_durations_survive_a_round_trip(nanoseconds: int) -> None:
    assert units.parse_duration(units.format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 45, "short"),
        ("x" * 45, 45, "x" * 45),
        ("x" * 46, 45, "x" * 44 + "…"),  # S37
        ("日本語", 5, "日本…"),
        ("ab", 1, "a"),
        ("ab", 0, ""),
    ],
)
def test_ellipsis(text: str, width: int, shown: str) -> None:
    assert units.ellipsis(text, width) == shown


def test_short_id() -> None:
    assert units.short_id("sha256:" + "ab" * 32) == "abababababab"
    assert units.short_id("f" * 64) == "f" * 12
