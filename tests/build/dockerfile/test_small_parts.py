"""Excerpts, suggestions, Go's text forms, signals, word cutting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.build.dockerfile.errors import DockerfileError, located
from lamina.build.dockerfile.gofmt import format_duration, parse_duration, quote
from lamina.build.dockerfile.signals import signal_number
from lamina.build.dockerfile.source import Range, Source
from lamina.build.dockerfile.suggest import nearest
from lamina.build.dockerfile.words import split_flags, split_words


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        (Range(5, 5), range(3, 8)),
        (Range(1, 1), range(1, 4)),
        (Range(9, 9), range(7, 10)),
        (Range(4, 6), range(3, 8)),
        (Range(1, 9), range(1, 10)),
        (Range(8, 20), range(7, 10)),
    ],
)
def test_excerpts(where: Range, shown: range) -> None:  # D49
    source = Source("D", "\n".join(f"line {number}" for number in range(1, 10)))
    lines = source.excerpt(where).splitlines()
    assert lines[0] == f"D:{where.start}"
    assert lines[1] == lines[-1] == "-" * 20
    assert lines[2:-1] == [f" {n:3d} | {'>>>' if n in where else '   '} line {n}" for n in shown]


def test_no_excerpt_of_lines_that_are_not_there() -> None:
    assert Source("D", "a").excerpt(Range(2, 2)) == ""
    assert DockerfileError("x").excerpt() == ""


def test_the_innermost_place_counts() -> None:
    source = Source("D", "a\nb")
    with (
        pytest.raises(DockerfileError) as caught,
        located(source, Range(1, 1)),
        located(source, Range(2, 2), parsing=True),
    ):
        raise DockerfileError("x")
    assert (caught.value.message, caught.value.line) == ("dockerfile parse error on line 2: x", 2)


@pytest.mark.parametrize(
    ("word", "options", "wanted"),
    [
        ("RUNN", ["RUN", "ADD"], "RUN"),
        ("run", ["RUN"], ""),
        ("rum", ["RUN"], "run"),
        ("Rum", ["RUN"], "RUN"),
        ("abcdef", ["RUN"], ""),
    ],
)
def test_suggestions_in_any_case(word: str, options: list[str], wanted: str) -> None:  # D49
    assert nearest(word, options, ignore_case=True) == wanted


def test_long_words_are_not_compared() -> None:  # threat 26
    assert nearest("x" * 100_000, ["y" * 100_000]) == ""


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("1.5h", 5400 * 10**9),
        ("1h2m3.5s", 3723_500_000_000),
        ("100ms", 10**8),
        ("5us", 5000),
        ("5\u00b5s", 5000),
        ("-1s", -(10**9)),
        (".5s", 5 * 10**8),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:  # D22
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1", "s", ".s", "1 s", "1d", "1s2", "--1s", "99999999999h", "1" * 5000 + "s"])
def test_bad_durations(text: str) -> None:  # D22
    with pytest.raises(DockerfileError, match=r"^time: "):
        parse_duration(text)


@given(st.integers(0, 2**62))
def test_durations_round_trip(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5\u00b5s"),
        (10**6, "1ms"),
        (90 * 10**9, "1m30s"),
        (3600 * 10**9, "1h0m0s"),
        (-(10**9), "-1s"),
    ],
)
def test_durations_in_history(value: int, text: str) -> None:  # D47
    assert format_duration(value) == text


def test_quoting() -> None:  # D47
    assert quote('a"\\\n\x00\x7f\u00e9\u200b\U000e0001') == '"a\\"\\\\\\n\\x00\\x7f\u00e9\\u200b\\U000e0001"'


@pytest.mark.parametrize(
    ("text", "number"), [("SIGKILL", 9), ("kill", 9), ("15", 15), ("SIGRTMIN", 34), ("RTMAX-1", 63), ("SIGCLD", 17)]
)
def test_signals(text: str, number: int) -> None:  # D21
    assert signal_number(text) == number


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b", ["a", "b"]),
        ("a='b c' \"d e\"f", ["a='b c'", '"d e"f']),
        ("a\\ b c", ["a\\ b", "c"]),
        ("'a\\' b", ["'a\\'", "b"]),
        ('"a\\" b" c', ['"a\\" b"', "c"]),
        ("a 'open b", ["a", "'open b"]),
        ("a\\", ["a"]),
        ("'' a", ["''", "a"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:  # D08
    assert split_words(text, "\\") == words


@pytest.mark.parametrize(
    ("text", "flags", "rest"),
    [
        ("--a=b --c d --e", ["--a=b", "--c"], "d --e"),
        ("--a='b c' d", ["--a=b c"], "d"),
        ("--a=b\\ c d", ["--a=b c"], "d"),
        ("-- --a b", [], "--a b"),
        ("--a", ["--a"], ""),
        ("-a b", [], "-a b"),
        ("", [], ""),
    ],
)
def test_splitting_flags(text: str, flags: list[str], rest: str) -> None:  # D04
    assert split_flags(text, "\\") == (flags, rest)
