"""No text crashes the front end: the only way out of bad input is a `DockerfileError` with its place (threat 26)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.build.dockerfile.arguments import Platforms
from lamina.build.dockerfile.binding import StageRef, bind
from lamina.build.dockerfile.checks import check_file, linter_for
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.ignore import IgnoreMatcher
from lamina.build.dockerfile.parser import parse
from lamina.build.dockerfile.stages import stages
from lamina.build.dockerfile.state import BaseState, StageResult, evaluate
from lamina.spec.config import ImageConfig, RunConfig
from lamina.spec.platform import Platform

LINUX = Platform("linux", "amd64")

FRAGMENTS = st.sampled_from(
    [
        "FROM a", "FROM a AS b", "FROM b", "FROM $A", "FROM --platform=$B ", "RUN ", "CMD ", "COPY ", "ADD ", "ENV ", "ARG ",
        "LABEL ", "EXPOSE ", "USER ", "WORKDIR ", "VOLUME ", "SHELL ", "STOPSIGNAL ", "HEALTHCHECK ", "ONBUILD ", "ENTRYPOINT ",
        "MAINTAINER ", "--from=b ", "--from=0 ", "--mount=type=cache,target=$A ", "--mount=type=ssh ", "--chown=$A ", "--link ",
        "A=b", "$A", "${A:-b}", "${A//x/", "}", "'", '"', "\\", "\n", "\n", "\\\n", "# c\n", "<<E", "\nE\n", "[", "]", ",", " ", "\t",
        "80/udp", "1-3", "x", "/", "..", "\ufeff", "\x00", "\u2028", "é", "\r\n", "# escape=`\n", "# check=skip=all\n", "NONE", "=",
    ]
)  # fmt: skip


def evaluate_all(text: str | bytes) -> None:
    """Everything short of building, with nothing known about base images."""
    dockerfile = parse(text)
    linter = linter_for(dockerfile)
    check_file(dockerfile, linter)
    graph = bind(stages(dockerfile), Platforms(LINUX, LINUX), build_args={"A": "x y"}, linter=linter)
    graph.reachable()
    results: dict[int, StageResult] = {}
    for index, bound in enumerate(graph.stages):
        base = results[bound.base.index].as_base() if isinstance(bound.base, StageRef) else BaseState.scratch()
        results[index] = evaluate(bound, base, graph, linter=linter)
        # What comes out can be stored: the configuration is valid JSON with its history.
        ImageConfig.make(
            platform=LINUX,
            config=results[index].config,
            diff_ids=(),
            history=tuple(entry.entry() for entry in results[index].history),
        )


def check(text: str | bytes) -> None:
    """Evaluate; what is refused has to say where."""
    problem: DockerfileError | None = None
    try:
        evaluate_all(text)
    except DockerfileError as error:
        problem = error
    if problem is not None:
        assert problem.message
        assert problem.range is not None and 1 <= problem.range.start <= problem.range.end
        assert ">>>" in problem.excerpt()


@given(st.lists(FRAGMENTS, max_size=25).map("".join))
@settings(max_examples=600, deadline=None)
def test_texts_of_fragments(text: str) -> None:
    check("FROM base\n" + text)


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text(text: str) -> None:
    check(text)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes) -> None:
    check(data)
    check(b"FROM x\nRUN " + data)


@given(st.lists(FRAGMENTS, max_size=8).map("".join))
@settings(max_examples=200, deadline=None)
def test_any_trigger_of_a_base_image(trigger: str) -> None:  # D23
    graph = bind(stages(parse("FROM x")), Platforms(LINUX, LINUX))
    line = 1
    try:
        evaluate(graph.stages[0], BaseState(RunConfig(on_build=(trigger,))), graph)
    except DockerfileError as error:
        line = error.line
    assert line == 1


@given(st.binary(max_size=100), st.lists(st.text(alphabet="ab/*.", max_size=8), max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_ignore_file(data: bytes, paths: list[str]) -> None:  # D41
    try:
        matcher = IgnoreMatcher.from_text(data)
    except DockerfileError:
        return
    for path in paths:
        matcher.excluded(path)
        matcher.may_contain_included(path)


@pytest.mark.parametrize(
    "text",
    [
        "FROM x\n" + "RUN a \\\n" * 50_000 + "b",
        "FROM x\n" + "ENV a=" + "'" * 60_000,
        "FROM x\n" + "ENV " + "a=b " * 15_000,
        "FROM x\nCMD " + "[" * 60_000,
        "FROM x\nCMD [" + '"a",' * 15_000,
        "FROM x\nRUN " + "<<a" * 20_000,
        "FROM x\nEXPOSE " + "1-65535 " * 20,
        "FROM x\nENV a=" + "${a:-" * 10_000 + "}" * 10_000,
        "FROM x\n" + "ONBUILD " * 5_000,
        "FROM x\nRUN " + "\\ " * 30_000,
        "FROM x\nRUN --mount=" + "type=bind," * 6_000 + " a",
        "ARG a=b\n" * 3_000 + "FROM x\n" + "COPY --from=y a b\n" * 3_000,
        "FROM x\nENV A=" + "y" * 60_000 + "\n" + "ENV A=$A$A$A$A\n" * 40,
        "FROM x\nENV A=" + "a" * 60_000 + "\nENV B=${A//*a*a*a*a*a*a*b/x}",
    ],
    ids=range(14),
)
def test_large_and_deep_texts_come_to_an_end(text: str) -> None:
    check(text)
