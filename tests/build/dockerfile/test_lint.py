"""The 22 build checks: D03, D48."""

from __future__ import annotations

import pytest

from lamina.build.dockerfile.arguments import Platforms
from lamina.build.dockerfile.binding import StageRef, bind
from lamina.build.dockerfile.checks import check_base_platform, check_file, check_ignored, linter_for
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.ignore import IgnoreMatcher
from lamina.build.dockerfile.lint import RULES, Linter, LintOptions, summary
from lamina.build.dockerfile.parser import parse
from lamina.build.dockerfile.source import Source
from lamina.build.dockerfile.stages import stages
from lamina.build.dockerfile.state import BaseState, StageResult, evaluate
from lamina.spec.platform import Platform

LINUX = Platform("linux", "amd64")


def lint(text: str, **args: str) -> Linter:
    """Everything that can be found without a context or base images."""
    dockerfile = parse(text)
    linter = linter_for(dockerfile)
    check_file(dockerfile, linter)
    graph = bind(stages(dockerfile), Platforms(LINUX, LINUX), build_args=args, linter=linter)
    results: dict[int, StageResult] = {}
    for index, bound in enumerate(graph.stages):
        base = results[bound.base.index].as_base() if isinstance(bound.base, StageRef) else BaseState()
        results[index] = evaluate(bound, base, graph, linter=linter)
    return linter


def found(text: str, **args: str) -> list[str]:
    return [warning.summary() for warning in lint(text, **args).warnings]


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("FROM x AS Build", ["StageNameCasing: Stage name 'Build' should be lowercase (line 1)"]),
        ("FROM x as b", ["FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"]),
        ("from x AS b", ["FromAsCasing: 'AS' and 'from' keywords' casing do not match (line 1)"]),
        ("FROM x\nRUN a \\\n\n  b", ["NoEmptyContinuation: Empty continuation line (line 4)"]),
        (
            "FROM x\nrun a\nUSER b",
            [
                "ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase) (line 2)"
            ],
        ),
        (
            "from x\nRun a\nuser b",
            [
                "ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (lowercase) (line 2)"
            ],
        ),
        (
            "FROM x AS a\nFROM x AS a",
            ['DuplicateStageName: Duplicate stage name "a", stage names should be unique (line 2)'],
        ),
        (
            "FROM x AS scratch",
            ['ReservedStageName: Stage name should not use the same name as reserved stage "scratch" (line 1)'],
        ),
        (
            "FROM x\nCMD a\nENTRYPOINT b",
            [
                "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)",
                "JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals (line 3)",
            ],
        ),
        ('FROM x\nSHELL ["s"]\nCMD a', []),
        ('FROM x\nCMD ["a"]', []),
        (
            "FROM x\nMAINTAINER a",
            ["MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)"],
        ),
        (
            "ARG BASE=x\nFROM x$BASEE",
            ["UndefinedArgInFrom: FROM argument 'BASEE' is not declared (did you mean BASE?) (line 2)"],
        ),
        ("ARG BASE\nFROM x$BASE", []),
        (
            "FROM x\nWORKDIR a\nWORKDIR b",
            [
                'WorkdirRelativePath: Relative workdir "a" can have unexpected results if the base image changes (line 2)'
            ],
        ),
        ("FROM x\nWORKDIR /a\nWORKDIR b", []),
        ("FROM x AS a\nWORKDIR /a\nFROM a\nWORKDIR b", []),
        (
            "FROM x\nENV PATH=$PAHT:/x",
            ["UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?) (line 2)"],
        ),
        ("FROM x\nARG foo\nCOPY $foo .", []),
        ('FROM x\nRUN echo $foo\nCMD ["$foo"]', []),
        (
            "FROM x\nCOPY $foo$foo .\nLABEL a=$foo",
            [
                "UndefinedVar: Usage of undefined variable '$foo' (line 2)",
                "UndefinedVar: Usage of undefined variable '$foo' (line 3)",
            ],
        ),
        (
            'FROM x\nCMD ["a"]\nCMD ["b"]\nFROM x\nCMD ["c"]',
            [
                (
                    "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage "
                    "because only the last one will be used (line 2)"
                )
            ],
        ),
        (
            "FROM x\nENV a b\nLABEL c d",
            [
                'LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 2)',
                'LegacyKeyValueFormat: "LABEL key=value" should be used instead of legacy "LABEL key value" format (line 3)',
            ],
        ),
        (
            "FROM --platform=$TARGETPLATFORM x",
            [
                (
                    "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as "
                    "this is the default behavior (line 1)"
                )
            ],
        ),
        ("FROM --platform=$BUILDPLATFORM x", []),
        (
            "FROM x\nARG GITHUB_TOKEN\nENV db_password=x PUBLIC_KEY=y monkey=z KEY_FILE=a",
            [
                'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "GITHUB_TOKEN") (line 2)',
                'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "db_password") (line 3)',
            ],
        ),
        (
            "ARG TAG\nFROM x:$TAG",
            [
                "InvalidDefaultArgInFrom: Default value for ARG x:$TAG results in empty or invalid base image name (line 2)"
            ],
        ),
        (
            "FROM --platform=linux/arm64 x",
            [
                'FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/arm64" (line 1)'
            ],
        ),
        ("FROM --platform=linux/arm64 x AS build-arm64", []),
        (
            "FROM x\nEXPOSE 80/TCP",
            ["ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 2)"],
        ),
        (
            "FROM x\nEXPOSE 1:80",
            [
                (
                    "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, "
                    "found '1:80' (line 2)"
                )
            ],
        ),
        ("# wrong\nFROM x AS a", []),  # experimental rules run only when asked for
        (
            "# check=experimental=all\n# wrong\nFROM x AS a\n# b is good\nARG b\n# nothing\n\nARG c d",
            ["InvalidDefinitionDescription: Comment for FROM should follow the format: `# a <description>` (line 3)"],
        ),
        (
            "# check=experimental=InvalidDefinitionDescription\nFROM x\n# bad\nARG c d",
            [
                "InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>` (line 4)"
            ],
        ),
    ],
)
def test_rules(text: str, warnings: list[str]) -> None:
    args = {"TAG": "1"} if "$TAG" in text else {}
    assert found(text, **args) == warnings


def test_files_hidden_by_the_ignore_file() -> None:
    dockerfile = parse("FROM x\nCOPY a b/c . /d\nADD a /e")
    linter = Linter()
    ignore = IgnoreMatcher.from_text("a\nb")
    for instruction, sources in zip(dockerfile.instructions[1:], [["a", "/b/c", "."], ["a"]], strict=True):
        check_ignored(instruction, sources, ignore, linter)
    assert [warning.message for warning in linter.warnings] == [
        'Attempting to Copy file "a" that is excluded by .dockerignore',
        'Attempting to Copy file "b/c" that is excluded by .dockerignore',
        'Attempting to Add file "a" that is excluded by .dockerignore',
    ]
    linter = Linter()
    check_ignored(dockerfile.instructions[1], ["a"], IgnoreMatcher.from_text("a\n!b"), linter)
    assert linter.warnings == []
    check_ignored(dockerfile.instructions[1], ["."], IgnoreMatcher.from_text("*"), linter)
    assert [warning.rule.name for warning in linter.warnings] == ["CopyIgnoredFile"]


def test_base_images_of_another_platform() -> None:
    from_ = stages(parse("FROM x"))[0].from_
    linter = Linter()
    check_base_platform(from_, "x", LINUX, Platform("linux", "amd64", "v2"), linter)
    check_base_platform(from_, "x", LINUX, Platform("linux", "arm64"), linter)
    assert [warning.message for warning in linter.warnings] == [
        'Base image x was pulled with platform "linux/arm64", expected "linux/amd64" for current build'
    ]


def test_all_22_rules_are_there() -> None:
    assert len(RULES) == 22
    assert all(rule.description and rule.url.startswith("https://") for rule in RULES.values())
    assert RULES["JSONArgsRecommended"].url.endswith("/json-args-recommended/")
    assert [rule.name for rule in RULES.values() if rule.experimental] == ["InvalidDefinitionDescription"]


def test_skipping() -> None:  # D03
    bad = "FROM x AS Build\nMAINTAINER a"
    assert [w.split(":")[0] for w in found(bad)] == ["StageNameCasing", "MaintainerDeprecated"]
    assert [w.split(":")[0] for w in found(f"# check=skip=StageNameCasing\n{bad}")] == ["MaintainerDeprecated"]
    assert found(f"# check=skip=StageNameCasing, MaintainerDeprecated;error=true\n{bad}") == []
    assert found(f"# check=skip=all\n{bad}") == []
    # a comment directly above one instruction
    assert [w.split(":")[0] for w in found("FROM x AS Build\n# check=skip=MaintainerDeprecated\nMAINTAINER a")] == [
        "StageNameCasing"
    ]
    assert len(found("FROM x AS Build\n# check=skip=MaintainerDeprecated\n\nMAINTAINER a")) == 2


def test_warnings_as_errors() -> None:  # D03
    linter = lint("# check=error=true\nFROM x AS Build\nMAINTAINER a")
    with pytest.raises(
        DockerfileError, match=r"^lint violation found for rules: MaintainerDeprecated, StageNameCasing$"
    ):
        linter.check()
    lint("# check=error=true\nFROM x").check()
    lint("FROM x AS Build").check()


def test_the_build_argument_takes_the_place_of_the_directive() -> None:  # D40
    dockerfile = parse("# check=skip=all\nFROM x AS Build\nMAINTAINER a")
    for given, expected in (
        ("", []),
        ("error=true", ["StageNameCasing", "MaintainerDeprecated"]),
        ("skip=StageNameCasing", ["MaintainerDeprecated"]),
    ):
        linter = linter_for(dockerfile, given)
        check_file(dockerfile, linter)
        assert [warning.rule.name for warning in linter.warnings] == expected
    with pytest.raises(
        DockerfileError, match=r'^failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: invalid check option "nope"$'
    ):
        linter_for(dockerfile, "nope=1")


@pytest.mark.parametrize("options", ["sikp=a", "skip", "error=maybe", "a;b"])
def test_bad_options(options: str) -> None:  # D03
    with pytest.raises(DockerfileError, match="check option") as caught:
        linter_for(parse(f"# check={options}\nFROM x"))
    assert caught.value.line == 1
    with pytest.raises(DockerfileError):
        LintOptions.parse(options)


def test_how_warnings_are_printed() -> None:
    linter = lint("FROM x AS Build\nMAINTAINER a")
    assert summary(linter.warnings) == (
        " 2 warnings found:\n"
        " - StageNameCasing: Stage name 'Build' should be lowercase (line 1)\n"
        " - MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)\n"
    )
    assert summary([]) == ""
    report = linter.warnings[0].report(Source("Dockerfile", "FROM x AS Build\nMAINTAINER a"))
    assert report.startswith("WARNING: StageNameCasing - https://")
    assert "\nDockerfile:1\n--------------------\n   1 | >>> FROM x AS Build\n" in report
