"""Stages, targets, bases and sources: D06, D25, D37-D40, D46."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from lamina.build.dockerfile.arguments import Platforms, proxy_environment, unconsumed
from lamina.build.dockerfile.binding import ContextRef, Graph, ImageRef, ScratchRef, SourceRef, StageRef, bind
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.parser import parse
from lamina.build.dockerfile.stages import stages
from lamina.spec.platform import Platform

PLATFORMS = Platforms(Platform("linux", "amd64"), Platform("linux", "arm", "v7"))


def graph(
    text: str, *, target: str = "", args: Mapping[str, str] | None = None, contexts: Collection[str] = ()
) -> Graph:
    return bind(stages(parse(text)), PLATFORMS, target=target, build_args=args, contexts=contexts)


def bases(text: str, args: Mapping[str, str] | None = None, contexts: Collection[str] = ()) -> list[str]:
    """The bases of all stages as short texts."""
    return [short(stage.base) for stage in graph(text, args=args, contexts=contexts).stages]


def short(reference: SourceRef | None) -> str:
    match reference:
        case None:
            return "context"
        case ScratchRef():
            return "scratch"
        case StageRef(index):
            return f"#{index}"
        case ImageRef(image, _):
            return str(image)
        case ContextRef(name):
            return f"context {name}"


def test_instructions_belong_to_the_from_above() -> None:
    file = stages(parse("ARG a\nARG b\nFROM x AS One\nRUN 1\nRUN 2\nFROM y\nFROM one"))
    assert len(file.global_args) == 2
    assert [(s.index, s.name, s.display, len(s.instructions)) for s in file.all] == [
        (0, "one", "one", 2),
        (1, "", "stage-1", 0),
        (2, "", "stage-2", 0),
    ]


def test_a_file_of_args_has_no_stages() -> None:
    with pytest.raises(DockerfileError, match="dockerfile contains no stages to build"):
        stages(parse("ARG a"))


@pytest.mark.parametrize(("target", "index"), [("", 2), ("a", 0), ("A", 0), ("b", 1), ("2", 2)])
def test_targets(target: str, index: int) -> None:  # D46
    assert graph("FROM x AS a\nFROM x AS B\nFROM x", target=target).target == index


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("biuld", 'target stage "biuld" could not be found (did you mean build?)'),
        ("zzzzzz", 'target stage "zzzzzz" could not be found'),
        ("7", 'target stage "7" could not be found'),
    ],
)
def test_unknown_targets(target: str, message: str) -> None:  # D46
    with pytest.raises(DockerfileError) as caught:
        graph("FROM x AS build\nFROM x AS test", target=target)
    assert caught.value.message == message
    assert caught.value.hint == "stages of Dockerfile: build, test"


def test_bases() -> None:  # D06
    assert bases("FROM debian AS a\nFROM A\nFROM scratch\nFROM h.io/x:1@sha256:" + "0" * 64) == [
        "docker.io/library/debian:latest",
        "#0",
        "scratch",
        "h.io/x:1@sha256:" + "0" * 64,
    ]


def test_an_earlier_stage_shadows_an_image_and_a_later_one_does_not() -> None:  # D06
    assert bases("FROM debian\nFROM x AS debian\nFROM debian") == [
        "docker.io/library/debian:latest",
        "docker.io/library/x:latest",
        "#1",
    ]


def test_of_stages_with_one_name_the_nearest_above_counts() -> None:  # D48 DuplicateStageName
    assert bases("FROM x AS a\nFROM a AS a\nFROM a") == ["docker.io/library/x:latest", "#0", "#1"]


def test_from_sees_global_arguments_only() -> None:  # D37
    text = "ARG A=x\nARG B=$A-y\nARG C\nFROM $B\nARG D=z\nFROM ${D:-none}${C:-c}"
    assert bases(text) == ["docker.io/library/x-y:latest", "docker.io/library/nonec:latest"]
    assert bases(text, {"A": "q", "C": "d", "D": "never"})[1] == "docker.io/library/noned:latest"
    assert bases(text, {"A": "q"})[0] == "docker.io/library/q-y:latest"


def test_automatic_arguments() -> None:  # D39
    text = "FROM a$TARGETARCH$TARGETVARIANT-$BUILDARCH-$TARGETSTAGE"
    assert bases(text) == ["docker.io/library/aarmv7-amd64-default:latest"]
    assert bases(text, {"TARGETARCH": "mips"}) == ["docker.io/library/amipsv7-amd64-default:latest"]
    assert bases("FROM a-$TARGETSTAGE AS last") == ["docker.io/library/a-last:latest"]
    scope = graph("FROM a").global_args
    assert (scope["TARGETPLATFORM"], scope["BUILDPLATFORM"], scope["TARGETOS"]) == (
        "linux/arm/v7",
        "linux/amd64",
        "linux",
    )


def test_platforms_of_from() -> None:  # D06
    stage = graph("FROM --platform=$BUILDPLATFORM x\nFROM x").stages
    assert (str(stage[0].platform), stage[1].platform) == ("linux/amd64", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM $NONE", "base name ($NONE) should not be blank"),
        ("ARG BASE=x\nFROM $BSAE", "base name ($BSAE) should not be blank (did you mean BASE?)"),
        ("FROM Debian", 'failed to parse stage name "Debian": invalid reference format: repository name'),
        ("FROM a:b:c", 'failed to parse stage name "a:b:c": invalid reference format'),
        ("FROM --platform=$NONE x", "empty platform value from expression $NONE"),
        (
            "FROM --platform=$TARGETPLATFROM x",
            "empty platform value from expression $TARGETPLATFROM (did you mean TARGETPLATFORM?)",
        ),
        ("FROM --platform=a/b/c/d x", "failed to parse platform a/b/c/d: "),
        ("FROM ${X:?told}", 'failed to process "${X:?told}": X: told'),
        ("ARG A=${X:?}\nFROM x", 'failed to process "${X:?}": X: is not allowed to be unset'),
    ],
)
def test_bad_from_lines(text: str, message: str) -> None:  # D06, D49
    with pytest.raises(DockerfileError) as caught:
        graph(text)
    assert caught.value.message.startswith(message)
    assert ">>> " in caught.value.excerpt()


def sources(text: str, contexts: Collection[str] = ()) -> list[str]:
    """What the instructions of the last stage read."""
    bound = graph(text, contexts=contexts)
    stage = bound.stages[-1].stage
    from lamina.build.dockerfile.binding import source_names

    return [
        short(bound.source(instruction, name, stage))
        for instruction in stage.instructions
        for name in source_names(instruction) or [""]
    ]


def test_sources_of_copies_and_mounts() -> None:  # D25, D11
    assert sources(
        "FROM x AS Build\nFROM y\nFROM z\n"
        "COPY a b\nCOPY --from=build a b\nCOPY --from=BUILD a b\nCOPY --from=1 a b\nCOPY --from=debian:12 a b\n"
        "COPY --from=scratch a b\nRUN --mount=from=Build,target=/x --mount=from=busybox,target=/y true"
    ) == [
        "context",
        "#0",
        "#0",
        "#1",
        "docker.io/library/debian:12",
        "scratch",
        "#0",
        "docker.io/library/busybox:latest",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM x\nCOPY --from=5 a b", "invalid stage index 5"),
        ("FROM x\nCOPY --from=-1 a b", "invalid stage index -1"),
        ("FROM x\nCOPY --from=A b c", 'failed to parse stage name "A"'),
        (
            "FROM x AS a\nCOPY --from=b c d\nFROM x AS b",
            'cannot copy from stage "b", it needs to be defined before current',
        ),
        (
            "FROM x\nRUN --mount=from=b,target=/x c\nFROM x AS b",
            'cannot mount from stage "b", stage needs to be defined',
        ),
    ],
)
def test_bad_sources(text: str, message: str) -> None:  # D25
    bound = graph(text, target="0")
    with pytest.raises(DockerfileError) as caught:
        bound.reachable()
    assert caught.value.message.startswith(message)
    assert caught.value.line == 2


@pytest.mark.parametrize(
    "text",
    [
        "FROM x AS a\nCOPY --from=a b c",
        "FROM x\nCOPY --from=0 b c",
        "FROM x AS a\nCOPY --from=b 1 2\nFROM x AS b\nCOPY --from=a 1 2",
        "FROM x AS a\nRUN --mount=from=b,target=/x c\nFROM x AS b\nCOPY --from=c 1 2\nFROM x AS c\nCOPY --from=a 1 2",
    ],
)
def test_stages_that_need_each_other(text: str) -> None:  # D46
    with pytest.raises(DockerfileError, match=r"^circular dependency detected on stage: (a|stage-0)$"):
        graph(text)


def test_only_reachable_stages_are_built() -> None:  # D46
    text = (
        "FROM x AS a\nFROM y AS unused\nFROM z AS tools\nFROM a AS b\nCOPY --from=tools / /\nFROM w\nCOPY --from=b / /"
    )
    assert graph(text).reachable() == [0, 2, 3, 4]
    assert graph(text, target="unused").reachable() == [1]
    assert graph(text, target="b").reachable() == [0, 2, 3]


def test_an_unused_stage_may_point_anywhere() -> None:  # D46
    assert graph("FROM x AS bad\nCOPY --from=9 / /\nFROM y").reachable() == [1]


def test_named_contexts_replace_images_and_stages() -> None:  # D46
    contexts = ["alpine", "docker.io/library/debian:12", "Tools"]
    text = "FROM alpine\nFROM alpine:3\nFROM debian:12\nFROM x AS tools\nRUN never\nFROM tools\nCOPY --from=TOOLS a b"
    bound = graph(text, contexts=contexts)
    assert [(short(s.base), s.replaced) for s in bound.stages] == [
        ("context alpine", False),
        ("docker.io/library/alpine:3", False),
        ("context docker.io/library/debian:12", False),
        ("context Tools", True),
        ("#3", False),
    ]
    assert bound.dependencies(3) == []
    assert sources("FROM x\nCOPY --from=src a b\nCOPY --from=Alpine:latest a b", ["src", "alpine:latest"]) == [
        "context src",
        "context alpine:latest",
    ]
    assert bases("FROM scratch", contexts=["scratch"]) == ["scratch"]


def test_proxy_arguments() -> None:  # D38
    assert proxy_environment({"Http_Proxy": "a", "no_proxy": "b", "FTP_PROXY": "", "x": "y"}) == (
        ("HTTP_PROXY", "a"),
        ("http_proxy", "a"),
        ("NO_PROXY", "b"),
        ("no_proxy", "b"),
    )


def test_build_arguments_that_nothing_uses() -> None:  # D37
    file = parse("ARG A\nFROM x\nARG B\nONBUILD ARG C")
    given = [
        "A",
        "B",
        "D",
        "C",
        "HTTP_PROXY",
        "https_proxy",
        "BUILDKIT_INLINE_CACHE",
        "TARGETARCH",
        "SOURCE_DATE_EPOCH",
    ]
    assert unconsumed(file.instructions, given) == ["C", "D"]


def test_thousands_of_stages_bind_quickly() -> None:  # threat 26
    text = "".join(
        f"FROM {f's{i - 1}' if i else 'x'} AS s{i}\nCOPY --from={max(i - 1, 0) if i else 'y'} a b\n"
        for i in range(3000)
    )
    bound = graph(text)
    assert len(bound.reachable()) == 3000
