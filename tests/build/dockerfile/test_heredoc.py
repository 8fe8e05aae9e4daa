"""Heredocs: D33, D34."""

from __future__ import annotations

import pytest

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.heredoc import Heredoc, parse_mark
from lamina.build.dockerfile.instructions import Copy, OnBuild, Run
from lamina.build.dockerfile.parser import parse


def heredocs(text: str) -> tuple[Heredoc, ...]:
    last = parse(f"FROM x\n{text}").instructions[-1]
    assert isinstance(last, Run)
    return last.command.heredocs


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("RUN <<EOF\na\n\nb\nEOF", Heredoc("EOF", "a\n\nb\n")),
        ("RUN <<EOF\nEOF", Heredoc("EOF", "")),
        ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF", Heredoc("EOF", "\ta\n\t\tb\n", strip_tabs=True)),
        ("RUN <<'EOF'\n$a\nEOF", Heredoc("EOF", "$a\n", expands=False)),
        ('RUN <<"EOF"\n$a\nEOF', Heredoc("EOF", "$a\n", expands=False)),
        ("RUN <<E'O'F\n$a\nEOF", Heredoc("EOF", "$a\n", expands=False)),
        ("RUN <<it\\'s\na\nit's", Heredoc("it's", "a\n")),
        ("RUN <<'one two'\na\none two", Heredoc("one two", "a\n", expands=False)),
        ("RUN 3<<EOF cat\na\nEOF", Heredoc("EOF", "a\n", descriptor=3)),
        ("RUN python3 <<EOF > out\na\nEOF", Heredoc("EOF", "a\n")),
        ("RUN cat <<  EOF\na\nEOF", Heredoc("EOF", "a\n")),
        ("RUN cat <<- EOF\na\nEOF", Heredoc("EOF", "a\n", strip_tabs=True)),
        ("RUN <<$EOF\n$EOF", Heredoc("$EOF", "")),
        ("RUN <<EOF\r\na\r\nEOF\r\n", Heredoc("EOF", "a\r\n")),
        ("RUN <<EOF\n# not a comment\nb \\\nEOF", Heredoc("EOF", "# not a comment\nb \\\n")),
        ("RUN --mount=type=tmpfs,target=/t <<EOF\na\nEOF", Heredoc("EOF", "a\n")),
    ],
)
def test_forms(text: str, wanted: Heredoc) -> None:
    assert heredocs(text) == (wanted,)


def test_several_on_a_line_follow_each_other() -> None:
    assert [h.content for h in heredocs("RUN <<A cat <<B\nB\nA\nA\nB")] == ["B\n", "A\n"]


@pytest.mark.parametrize(
    "text", ["RUN '<<EOF'", 'RUN "<<EOF"', 'RUN ["<<EOF"]', "RUN a <<< b", "RUN a << ", "RUN ((1<<2))", "RUN 'open <<E"]
)
def test_what_is_no_heredoc(text: str) -> None:
    assert heredocs(text) == ()


def test_other_instructions_have_none() -> None:
    assert [i.NAME for i in parse("FROM x\nUSER <<A\nENV a=<<B\nCMD <<C").instructions] == [
        "FROM",
        "USER",
        "ENV",
        "CMD",
    ]


@pytest.mark.parametrize("text", ["RUN <<EOF\na", "COPY <<A <<B /\na\nA\nb", "RUN <<-EOF\n EOF"])
def test_unterminated(text: str) -> None:
    with pytest.raises(DockerfileError, match=r"^unterminated heredoc$") as caught:
        parse(f"FROM x\n{text}")
    assert caught.value.line == 2


def test_body_without_tabs() -> None:
    assert Heredoc("E", "\ta\n\t\tb\nc\td\n", strip_tabs=True).body == "a\nb\nc\td\n"


def test_sources_of_copy() -> None:
    copy = parse('FROM x\nCOPY <<a b <<-"c" /d/\n$x\na\n\t$y\nc\n').instructions[1]
    assert isinstance(copy, Copy)
    assert copy.sources == ("b",)
    assert [(d.name, d.content, d.expands) for d in copy.documents] == [("a", "$x\n", True), ("c", "$y\n", False)]


def test_no_heredoc_as_destination() -> None:
    with pytest.raises(DockerfileError, match="COPY cannot accept a heredoc as a destination"):
        parse("FROM x\nCOPY a <<b\nb\n")


def test_under_onbuild_the_bodies_are_part_of_the_trigger() -> None:  # D23
    trigger = parse("FROM x\nONBUILD COPY <<a <<b /\n1\na\n2\nb\n").instructions[1]
    assert isinstance(trigger, OnBuild)
    assert trigger.trigger == "COPY <<a <<b /\n1\na\n2\nb"
    again = parse(f"FROM x\n{trigger.trigger}").instructions[1]
    assert isinstance(again, Copy)
    assert [d.content for d in again.documents] == ["1\n", "2\n"]


@pytest.mark.parametrize("word", ["", "EOF", "<<", "<<-", "<EOF", "<<<EOF", "<<a b"])
def test_words_that_are_no_marks(word: str) -> None:
    assert parse_mark(word) is None


@pytest.mark.parametrize("word", ["<<'a", '<<a"'])
def test_marks_with_open_quotes(word: str) -> None:
    with pytest.raises(DockerfileError, match="looking for matching"):
        parse_mark(word)
