"""From text to logical lines: D01-D03."""

from __future__ import annotations

import pytest

from lamina.build.dockerfile.directives import detect_syntax
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.instructions import Run
from lamina.build.dockerfile.lexer import MAX_LINE
from lamina.build.dockerfile.parser import parse
from lamina.build.dockerfile.source import Range


def run_line(text: str, escape: str = "\\") -> str:
    """The shell text of the last RUN after `FROM x`."""
    head = f"# escape={escape}\n" if escape != "\\" else ""
    last = parse(f"{head}FROM x\n{text}").instructions[-1]
    assert isinstance(last, Run)
    return " ".join(last.command.words)


def test_byte_order_mark_and_crlf_vanish() -> None:  # D01
    dockerfile = parse(b"\xef\xbb\xbf# escape=`\r\nFROM x\r\nRUN a `\r\n  b\r\n")
    assert dockerfile.escape == "`"
    assert [i.origin.text for i in dockerfile.instructions] == ["FROM x", "RUN a   b"]


def test_keywords_in_any_case_and_indented() -> None:  # D01
    dockerfile = parse("  from x\n\tRuN a\n   # comment\n  \n env a=b")
    assert [i.NAME for i in dockerfile.instructions] == ["FROM", "RUN", "ENV"]


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n  # comments\n", "\ufeff", "# escape=`\n"])
def test_a_file_without_instructions_is_an_error(text: str) -> None:  # D01
    with pytest.raises(DockerfileError, match=r"^file with no instructions$"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("RUN a # b", "a # b"),  # data, not a comment (D01)
        ("RUN a \\\n  b", "a   b"),  # inner indentation stays
        ("RUN a\\  \t\nb", "ab"),  # blanks after the escape
        ("RUN a \\\\\nRUN b", "b"),  # a doubled escape is no continuation
        ("RUN a \\\n# gone\n   # gone too\nb", "a b"),
        ("RUN a \\\n\n   \nb", "a b"),
        ("RUN a \\", "a"),  # continuation into the end of the file
        ("RUN a \\\n\\\nb", "a b"),
        ("\\\nRUN a", "a"),
        ("RUN a \\\n#\n", "a"),
    ],
)
def test_continuations(text: str, line: str) -> None:  # D02, S34
    assert run_line(text) == line


def test_backtick_as_escape_leaves_backslashes_alone() -> None:  # D03
    assert run_line("RUN dir c:\\ `\n  /s", "`") == "dir c:\\   /s"


def test_blank_lines_in_a_continuation_are_recorded() -> None:  # D02, D48 NoEmptyContinuation
    assert parse("FROM x\nRUN a \\\n\n  b\nRUN c").blank_continuations == (Range(4, 4),)
    assert parse("FROM x\nRUN a \\\n# c\n  b").blank_continuations == ()


def test_ranges_span_continuations_and_heredocs() -> None:
    dockerfile = parse("\nFROM x\nRUN a \\\n\n  b\nCOPY <<E /x\n1\n2\nE\nUSER u\n")
    assert [i.range for i in dockerfile.instructions] == [Range(2, 2), Range(3, 5), Range(6, 9), Range(10, 10)]


@pytest.mark.parametrize(
    ("head", "directives"),
    [
        ("# syntax=docker/dockerfile:1\n# ESCAPE = `\n# check=skip=all\n", {"syntax", "escape", "check"}),
        ("#syntax=a\n", {"syntax"}),
        ("\n# escape=`\n", set()),  # a blank line ends the search
        ("# comment\n# escape=`\n", set()),
        ("# unknown=x\n# escape=`\n", set()),
        ("#! /bin/sh\n# escape=`\n", set()),
        ("ARG a\n# escape=`\n", set()),
    ],
)
def test_directives_only_in_the_first_lines(head: str, directives: set[str]) -> None:  # D03
    assert set(parse(head + "FROM x\n").directives) == directives


def test_values_of_directives_keep_their_case() -> None:  # D03
    assert parse("# Syntax = Docker/X:1 \nFROM x").directives["syntax"].value == "Docker/X:1"


def test_a_repeated_directive_is_an_error() -> None:  # D03
    with pytest.raises(DockerfileError, match="only one escape parser directive can be used") as caught:
        parse("# escape=\\\n# Escape=`\nFROM x")
    assert caught.value.line == 2


def test_other_escape_characters_are_refused() -> None:  # D03
    with pytest.raises(DockerfileError, match="invalid escape token 'x'"):
        parse("# escape=x\nFROM x")


@pytest.mark.parametrize(
    ("text", "syntax"),
    [
        ("# syntax=a/b:1 extra\nFROM x", "a/b:1"),
        ("#!/usr/bin/env x\n# syntax=a\n", "a"),
        ("// check=skip=all\n// syntax = a\n", "a"),
        ('\ufeff{"syntax": "a"}', "a"),
        ('{"syntax": 1}', None),
        ("[" * 5000, None),
        ("{" + '"a":[' * 5000, None),
        ("FROM x\n# syntax=a", None),
    ],
)
def test_detect_syntax(text: str, syntax: str | None) -> None:  # D03
    assert detect_syntax(text) == syntax


def test_a_line_of_64_kib_is_the_longest() -> None:  # D01
    fill = MAX_LINE - len("RUN ")
    assert len(run_line("RUN " + "x" * fill)) == fill
    with pytest.raises(DockerfileError, match="dockerfile line greater than max allowed size of 65535") as caught:
        parse("FROM x\nRUN " + "x" * (fill + 1))
    assert caught.value.line == 2
    with pytest.raises(DockerfileError, match="max allowed size"):
        parse("FROM x\nRUN " + "\u00e9" * (fill // 2 + 1))  # bytes count, not characters


def test_utf16_is_named_as_what_it_is() -> None:  # D01
    with pytest.raises(DockerfileError, match="not UTF-8") as caught:
        parse("FROM x\n".encode("utf-16-le"))
    assert caught.value.hint is not None


def test_bytes_that_are_no_utf8_do_not_stop_the_build() -> None:  # D01
    assert parse(b"# caf\xe9\nFROM x\nMAINTAINER Andr\xe9\n").instructions[1].origin.text == "MAINTAINER Andr\ufffd"


def test_comments_directly_above_belong_to_an_instruction() -> None:  # D48
    dockerfile = parse("# far\n\n# one\n# two\nFROM x\n# cut\n#\n# near\nRUN a\nRUN b")
    assert [i.origin.comments for i in dockerfile.instructions] == [("one", "two"), ("near",), ()]
