"""The 18 instructions as typed values: D04-D08, D16-D32."""

from __future__ import annotations

from typing import TypeVar

import pytest

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.instructions import (
    Add,
    Arg,
    ArgPair,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Pair,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from lamina.build.dockerfile.parser import parse
from lamina.spec.config import Healthcheck

T = TypeVar("T", bound=Instruction)


def one(text: str, kind: type[T]) -> T:
    """The instruction of a line, checked for its type."""
    head = "" if text.upper().startswith(("FROM", "ARG")) else "FROM base\n"
    instruction = parse(head + text).instructions[-1]
    assert isinstance(instruction, kind)
    return instruction


def refused(text: str) -> str:
    """The message for a wrong line, without its prefix."""
    with pytest.raises(DockerfileError) as caught:
        parse(f"FROM base\n{text}")
    assert caught.value.line == 2
    return caught.value.message.removeprefix("dockerfile parse error on line 2: ")


@pytest.mark.parametrize(
    ("text", "base", "alias", "platform"),
    [
        ("FROM a", "a", "", ""),
        ("FROM a:1 AS One", "a:1", "one", ""),
        ("from --platform=$TARGETPLATFORM a@sha256:0 as b-c_d.1", "a@sha256:0", "b-c_d.1", "$TARGETPLATFORM"),
        ("FROM scratch", "scratch", "", ""),
        ("FROM ${BASE:-a} AS x", "${BASE:-a}", "x", ""),
    ],
)
def test_from(text: str, base: str, alias: str, platform: str) -> None:  # D06
    instruction = one(text, From)
    assert (instruction.base, instruction.alias, instruction.platform) == (base, alias, platform)


@pytest.mark.parametrize("text", ["FROM", "FROM a b", "FROM a AS", "FROM a AS b c", "FROM a IS b"])
def test_from_wants_one_or_three_words(text: str) -> None:  # D06
    assert refused(text) == "FROM requires either one or three arguments"


@pytest.mark.parametrize("name", ["1a", "a:b", "ä", "a$b", "-a", '"a"'])
def test_names_of_stages(name: str) -> None:  # D06
    assert refused(f"FROM a AS {name}").startswith("invalid name for build stage: ")


def test_only_arg_may_come_before_from() -> None:  # D06
    assert [i.NAME for i in parse("ARG a\nARG b\nFROM x").instructions] == ["ARG", "ARG", "FROM"]
    with pytest.raises(DockerfileError, match=r"^no build stage in current context$") as caught:
        parse("ARG a\nENV a=b\nFROM x")
    assert caught.value.line == 2


def test_arg() -> None:  # D07
    assert one('ARG a b= c="d e" f=$a', Arg).pairs == (
        ArgPair("a"),
        ArgPair("b", ""),
        ArgPair("c", '"d e"'),
        ArgPair("f", "$a"),
    )
    assert refused("ARG") == "ARG requires at least one argument"
    assert refused("ARG =x") == "ARG names can not be blank"


@pytest.mark.parametrize("name", ["ENV", "LABEL"])
def test_pairs(name: str) -> None:  # D08, D17
    def pairs(text: str) -> list[tuple[str, str, bool]]:
        line = f"{name} {text}"
        found = one(line, Env).pairs if name == "ENV" else one(line, Label).pairs
        return [(p.key, p.value, p.legacy) for p in found]

    assert pairs("a=b c=d") == [("a", "b", False), ("c", "d", False)]
    assert pairs("a=\"b c\" d=e\\ f g='h i' j=") == [
        ("a", '"b c"', False),
        ("d", "e\\ f", False),
        ("g", "'h i'", False),
        ("j", "", False),
    ]
    assert pairs("a b=c d") == [("a", "b=c d", True)]
    assert pairs('a   "b c"  d') == [("a", '"b c"  d', True)]
    assert pairs("a=b=c") == [("a", "b=c", False)]
    assert pairs("a=b \\\n c=d") == [("a", "b", False), ("c", "d", False)]
    assert refused(name) == f"{name} requires at least one argument"
    assert refused(f"{name} a") == f"{name} must have two arguments"
    assert refused(f"{name} a=b c").startswith('Syntax error - can\'t find = in "c". Must be of the form: name=value')
    assert refused(f"{name} =b") == f"{name} names can not be blank"


def test_blanks_around_the_equals_sign_make_the_old_form() -> None:  # S32
    label = one('LABEL   Description = "This is a test"', Label)
    assert label.pairs == (Pair("Description", '= "This is a test"', legacy=True),)


def test_old_form_of_label() -> None:  # S33
    assert one('LABEL maintainer "x@y"', Label).pairs == (Pair("maintainer", '"x@y"', legacy=True),)


@pytest.mark.parametrize(
    ("rest", "words", "shell_form"),
    [
        ('["a", "b c"]', ("a", "b c"), False),
        ('[ "a" , "b" ] ', ("a", "b"), False),  # S34
        ('["\\u00e9\\n\\"\\\\"]', ('é\n"\\',), False),
        ('["\\ud800x"]', ("\ufffdx",), False),
        ("[]", (), False),
        ("a  b", ("a  b",), True),
        ("['a', 'b']", ("['a', 'b']",), True),  # single quotes are no JSON
        ('["a", "b"', ('["a", "b"',), True),
        ('["a",]', ('["a",]',), True),
        ('["a"] b', ('["a"] b',), True),
        ('["a" "b"]', ('["a" "b"]',), True),
        ('"a" "b"', ('"a" "b"',), True),
        ("[NaN]", ("[NaN]",), True),
        ("[ -f x ] && y", ("[ -f x ] && y",), True),
        ("", (), True),
    ],
)
def test_exec_and_shell_form(rest: str, words: tuple[str, ...], shell_form: bool) -> None:  # D05
    for command in (one(f"CMD {rest}", Cmd).command, one(f"ENTRYPOINT {rest}", Entrypoint).command):
        assert (command.words, command.shell_form) == (words, shell_form)
    if words:
        command = one(f"RUN {rest}", Run).command
        assert (command.words, command.shell_form) == (words, shell_form)


@pytest.mark.parametrize("array", ["[1]", '["a", 1]', '["a", ["b"]]', "[null]", "[{}]", "[" * 3000 + "]" * 3000])
@pytest.mark.parametrize("name", ["CMD", "RUN", "ENTRYPOINT", "SHELL", "COPY", "ADD", "VOLUME", "HEALTHCHECK CMD"])
def test_an_array_of_other_things_is_an_error(name: str, array: str) -> None:  # D05
    assert refused(f"{name} {array}") == "when using JSON array syntax, arrays must be comprised of strings only"


def test_argv_in_both_forms() -> None:  # D16
    assert one("CMD a  b", Cmd).command.argv(("sh", "-c")) == ("sh", "-c", "a  b")
    assert one('CMD ["a", "b"]', Cmd).command.argv(("sh", "-c")) == ("a", "b")


def test_shell() -> None:  # D21
    assert one('SHELL ["bash", "-euc"]', Shell).words == ("bash", "-euc")
    assert refused("SHELL bash -c") == "SHELL requires the arguments to be in JSON form"
    assert refused("SHELL []") == "SHELL requires at least one argument"
    assert refused("SHELL") == "SHELL requires at least one argument"


def test_single_arguments() -> None:  # D17, D19, D21
    assert one("WORKDIR /a b/c", Workdir).path == "/a b/c"
    assert one("USER a:b", User).user == "a:b"
    assert one("STOPSIGNAL SIGTERM", StopSignal).signal == "SIGTERM"
    assert one("MAINTAINER A B <a@b>", Maintainer).author == "A B <a@b>"
    for name in ("WORKDIR", "USER", "STOPSIGNAL", "MAINTAINER"):
        assert refused(name) == f"{name} requires exactly one argument"


def test_expose_and_volume() -> None:  # D18, D20
    assert one("EXPOSE 90 80/udp 7000-7002", Expose).ports == ("7000-7002", "80/udp", "90")
    assert one("VOLUME /a /b", Volume).paths == ("/a", "/b")
    assert one('VOLUME ["/a b", "/c"]', Volume).paths == ("/a b", "/c")
    assert refused("EXPOSE") == "EXPOSE requires at least one argument"
    assert refused("VOLUME") == "VOLUME requires at least one argument"
    assert refused("VOLUME []") == "VOLUME requires at least one argument"
    assert refused('VOLUME [" "]') == "VOLUME specified can not be an empty string"


def test_healthcheck() -> None:  # D22
    health = one(
        "HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=3 --start-period=1h --start-interval=100ms CMD a b",
        HealthCheck,
    )
    second = 10**9
    assert health.health == Healthcheck(("CMD-SHELL", "a b"), 90 * second, 1_500_000_000, 3600 * second, 100_000_000, 3)
    assert one('HEALTHCHECK cmd ["a", "b"]', HealthCheck).health == Healthcheck(("CMD", "a", "b"))
    assert one("HEALTHCHECK none", HealthCheck).health == Healthcheck(("NONE",))


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "HEALTHCHECK requires at least one argument"),
        ("NONE a", "HEALTHCHECK NONE takes no arguments"),
        ("CMD", "Missing command after HEALTHCHECK CMD"),
        ("CMD []", "Missing command after HEALTHCHECK CMD"),
        ("curl x", 'Unknown type "CURL" in HEALTHCHECK (try CMD)'),
        ("--interval=1 CMD a", 'time: missing unit in duration "1"'),
        ("--interval=1x CMD a", 'time: invalid duration "1x"'),
        ("--timeout=1us CMD a", 'Interval "timeout" cannot be less than 1ms'),
        ("--timeout=-1s CMD a", None),
        ("--retries=-1 CMD a", "--retries cannot be negative (-1)"),
        ("--retries=x CMD a", '--retries must be a number: "x"'),
        ("--interval=" + "9" * 30 + "h CMD a", None),
        ("--intervall=1s CMD a", "unknown flag: --intervall (did you mean interval?)"),
    ],
)
def test_wrong_healthchecks(rest: str, message: str | None) -> None:  # D22
    assert refused(f"HEALTHCHECK {rest}") == message or message is None


def test_onbuild() -> None:  # D23
    trigger = one('ONBUILD  run --network=none a  "b"', OnBuild)
    assert (trigger.trigger, trigger.deferred) == ('run --network=none a  "b"', "RUN")
    assert refused("ONBUILD") == "ONBUILD requires at least one argument"
    assert refused("ONBUILD ONBUILD RUN a") == "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"
    assert refused("ONBUILD FROM a") == "FROM isn't allowed as an ONBUILD trigger"
    assert refused("ONBUILD maintainer a") == "MAINTAINER isn't allowed as an ONBUILD trigger"
    assert refused("ONBUILD RUNN a") == "unknown instruction: RUNN (did you mean RUN?)"
    assert refused("ONBUILD COPY a").startswith("COPY requires at least two arguments")


def test_copy() -> None:  # D24-D28
    copy = one(
        'COPY --from=Build --chown=$U:g --chmod=u+x --link --parents=false --exclude=*.o --exclude="a b" "a\\ b" c /d/',
        Copy,
    )
    assert (copy.sources, copy.dest, copy.source_stage) == (('"a\\', 'b"', "c"), "/d/", "Build")
    assert (copy.chown, copy.chmod, copy.link, copy.parents, copy.exclude) == (
        "$U:g",
        "u+x",
        True,
        False,
        ("*.o", "a b"),
    )
    assert one('COPY ["a b", "c"]', Copy).sources == ("a b",)
    assert one("COPY -- --a b", Copy).sources == ("--a",)
    for rest in ("", "a", '["a"]', "[]"):
        assert refused(f"COPY {rest}").startswith("COPY requires at least two arguments, but only one was provided.")


def test_no_variables_in_from_of_copy() -> None:  # D25
    assert refused("COPY --from=$a b c").startswith(
        "variable expansion is not supported for --from, define a new stage"
    )


def test_add() -> None:  # D29
    add = one("ADD --checksum=sha256:$s --keep-git-dir --unpack=FALSE https://x/y /z", Add)
    assert (add.checksum, add.keep_git_dir, add.unpack, add.link) == ("sha256:$s", True, False, False)
    assert (one("ADD a b", Add).keep_git_dir, one("ADD a b", Add).unpack) == (None, None)
    assert refused("ADD --from=a b c") == "unknown flag: --from"
    assert refused("COPY --unpack a b") == "unknown flag: --unpack"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("COPY --chwon=a b c", "unknown flag: --chwon (did you mean chown?)"),
        ("COPY --chown a b c", "missing a value on flag: --chown"),
        ("COPY --chown=a --chown=b c d", "duplicate flag specified: --chown"),
        ("COPY --link=maybe a b", "expecting boolean value for flag --link, not: maybe"),
        ("COPY --link= a b", "missing a value on flag: --link"),
        ("CMD --a b", "unknown flag: --a"),
        ("ENV --a b", "unknown flag: --a"),
        ("USER --a b", "unknown flag: --a"),
        ("ARG --a b", "unknown flag: --a"),
        ("STOPSIGNAL --a b", "unknown flag: --a"),
    ],
)
def test_flags(text: str, message: str) -> None:  # D04
    assert refused(text) == message


def test_flags_come_first() -> None:  # D04
    assert one("RUN a --network=none", Run).command.words == ("a --network=none",)


@pytest.mark.parametrize(
    ("keyword", "suggestion"),
    [
        ("RUNN", "RUN"),
        ("frm", "from"),
        ("Cpoy", "COPY"),
        ("HEALTCHECK", "HEALTHCHECK"),
        ("XYZZY", ""),
        ("\u017fHELL", "SHELL"),
    ],
)
def test_unknown_instructions(keyword: str, suggestion: str) -> None:  # D49
    wanted = f" (did you mean {suggestion}?)" if suggestion else ""
    assert refused(f"{keyword} a") == f"unknown instruction: {keyword}{wanted}"


def test_errors_point_at_their_lines() -> None:  # D49
    with pytest.raises(DockerfileError) as caught:
        parse("FROM a\n\nRUNN b\nUSER c\n", "dir/Dockerfile.x")
    assert caught.value.message == "dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)"
    assert caught.value.excerpt() == (
        "dir/Dockerfile.x:3\n"
        "--------------------\n"
        "   1 |     FROM a\n"
        "   2 |     \n"
        "   3 | >>> RUNN b\n"
        "   4 |     USER c\n"
        "   5 |     \n"
        "--------------------\n"
    )


def test_the_history_text_is_the_logical_line() -> None:  # D47
    assert one("run a \\\n  # c\n  b  ", Run).origin.text == "run a   b"
