"""Evaluating stages: D07-D09, D16-D23, D35-D40, D47, S37."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from lamina.build.dockerfile.arguments import Platforms
from lamina.build.dockerfile.binding import ImageRef, StageRef, bind
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.parser import parse
from lamina.build.dockerfile.stages import stages
from lamina.build.dockerfile.state import DEFAULT_PATH, BaseState, StageResult, evaluate
from lamina.build.dockerfile.steps import AddStep, CopyStep, MetaStep, RunStep, WorkdirStep, step_sources
from lamina.spec.config import Healthcheck, RunConfig
from lamina.spec.platform import Platform

LINUX = Platform("linux", "amd64")


def build(
    text: str,
    base: RunConfig | None = None,
    args: Mapping[str, str] | None = None,
    contexts: Collection[str] = (),
) -> StageResult:
    """The last stage of a file, after those that it needs; the image `base` has the configuration `base`."""
    graph = bind(stages(parse(text)), Platforms(LINUX, LINUX), build_args=args, contexts=contexts)
    results: dict[int, StageResult] = {}
    for index, bound in enumerate(graph.stages):
        if isinstance(bound.base, StageRef):
            state = results[bound.base.index].as_base()
        else:
            image = isinstance(bound.base, ImageRef)
            own = base if base and bound.stage.from_.base == "base" else RunConfig()
            state = BaseState(own) if image else BaseState.scratch()
        results[index] = evaluate(bound, state, graph)
    return results[graph.target]


def config(text: str, base: RunConfig | None = None, args: Mapping[str, str] | None = None) -> RunConfig:
    return build(f"FROM base\n{text}", base, args).config


def env(text: str, base: RunConfig | None = None, args: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a RUN at the end sees, without PATH."""
    step = build(f"FROM base\n{text}\nRUN true", base, args).steps[-1]
    assert isinstance(step, RunStep)
    return {name: value for name, value in step.env if name != "PATH"}


def created_by(text: str, args: Mapping[str, str] | None = None) -> list[str]:
    return [entry.created_by for entry in build(f"FROM base\n{text}", args=args).history]


# -- variables


def test_all_values_of_a_line_see_the_state_before_it() -> None:  # D08
    assert env("ENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc") == {"abc": "bye", "def": "hello", "ghi": "bye"}


def test_keys_are_expanded_too() -> None:  # D08
    assert env("ENV K=a\nENV ${K}_b=1\nLABEL x=y") == {"K": "a", "a_b": "1"}
    with pytest.raises(DockerfileError, match="ENV names can not be blank") as caught:
        env("ENV $NONE=1")
    assert caught.value.line == 2


def test_quotes_in_both_forms_of_env() -> None:  # D08
    assert env("ENV a=\"b c\" d='$a' e=f\\ g") == {"a": "b c", "d": "$a", "e": "f g"}
    assert env('ENV a "b  c" d') == {"a": "b  c d"}


def test_base_environment_keeps_its_order_and_is_replaced_in_place() -> None:  # D47
    base = RunConfig(env=("PATH=/x", "A=1", "B=2"))
    assert config("ENV A=$PATH:y C=3", base).env == ("PATH=/x", "A=/x:y", "B=2", "C=3")


def test_path_is_always_set() -> None:  # D09
    assert config("USER x").env == (f"PATH={DEFAULT_PATH}",)
    assert config("ENV PATH=/a:$PATH").env == (f"PATH=/a:{DEFAULT_PATH}",)


def test_value_order_of_arguments() -> None:  # D07
    text = "ARG G=global\nFROM base\nARG G\nARG D=$G-default\nARG N\nRUN true"
    step = build(text).steps[-1]
    assert isinstance(step, RunStep)
    assert (dict(step.env)["G"], dict(step.env)["D"]) == ("global", "global-default")
    assert "N" not in dict(step.env)
    step = build(text, args={"G": "1", "D": "$G", "N": "3"}).steps[-1]
    assert isinstance(step, RunStep)
    assert [(name, value) for name, value in step.env if name != "PATH"] == [("G", "1"), ("D", "$G"), ("N", "3")]


def test_arguments_do_not_enter_the_configuration() -> None:  # D07
    assert config("ARG a=1").env == (f"PATH={DEFAULT_PATH}",)


def test_an_argument_is_empty_before_its_declaration() -> None:  # D37
    assert env("ENV a=x$v\nARG v=1\nENV b=x$v", args={"v": "2"}) == {"a": "x", "b": "x2", "v": "2"}


def test_global_arguments_must_be_imported() -> None:  # D37
    assert config("LABEL v=$v").labels == {"v": ""}
    assert build("ARG v=1\nFROM base\nLABEL v=$v").config.labels == {"v": ""}
    assert build("ARG v=1\nFROM base\nARG v\nLABEL v=$v").config.labels == {"v": "1"}
    assert build("ARG v=1\nFROM base\nARG v=2\nLABEL v=$v").config.labels == {"v": "2"}


def test_arguments_are_inherited_from_the_stage_below() -> None:  # D37
    assert build("FROM base AS a\nARG v=1\nFROM a\nLABEL v=$v").config.labels == {"v": "1"}
    assert build("FROM base AS a\nARG v=1\nFROM base\nLABEL v=$v").config.labels == {"v": ""}


def test_env_hides_an_argument_of_the_same_name() -> None:  # D08
    assert env("ARG v=1\nENV v=2", args={"v": "3"}) == {"v": "2"}
    assert env("ENV v=2\nARG v=1", args={"v": "3"}) == {"v": "2"}
    assert env("ARG v=1", RunConfig(env=("v=2",)), args={"v": "3"}) == {"v": "2"}
    assert env("ARG v=1\nENV v=2\nARG v", args={}) == {"v": "2"}
    assert created_by("ARG v=1\nENV v=2\nRUN x")[-1] == "RUN |1 v=2 /bin/sh -c x # buildkit"
    assert build("FROM base AS a\nARG v=1\nENV v=2\nFROM a\nLABEL l=$v").config.labels == {"l": "2"}


def test_an_argument_declared_again_without_a_value_keeps_it() -> None:  # D07
    assert env("ARG v=1\nARG v") == {"v": "1"}


def test_env_takes_over_the_value_of_an_argument() -> None:  # D08
    assert config("ARG v=1\nENV v=$v").environment()["v"] == "1"


def test_automatic_arguments_must_be_imported() -> None:  # D39
    assert env("ARG TARGETARCH\nARG TARGETOS=mine") == {"TARGETARCH": "amd64", "TARGETOS": "mine"}
    assert env("ENV a=$TARGETARCH") == {"a": ""}


def test_proxies_reach_run_only() -> None:  # D38
    result = build("FROM base\nENV a=$HTTP_PROXY\nRUN true", args={"HTTP_PROXY": "p"})
    step = result.steps[-1]
    assert isinstance(step, RunStep)
    assert step.proxy_env == (("HTTP_PROXY", "p"), ("http_proxy", "p"))
    assert "HTTP_PROXY" not in dict(step.env)
    assert step.history is not None and step.history.created_by == "RUN /bin/sh -c true # buildkit"
    declared = build("FROM base\nARG HTTP_PROXY\nRUN true", args={"HTTP_PROXY": "p"}).steps[-1]
    assert isinstance(declared, RunStep)
    assert dict(declared.env)["HTTP_PROXY"] == "p"
    assert declared.proxy_env == (("http_proxy", "p"),)


def test_scan_arguments_are_invisible() -> None:  # D40
    assert env("ARG BUILDKIT_SBOM_SCAN_STAGE=true\nENV a=x$BUILDKIT_SBOM_SCAN_STAGE") == {"a": "x"}


@pytest.mark.parametrize(
    ("text", "field", "wanted"),
    [
        ("USER $U", "user", "me"),
        ("WORKDIR /$U", "working_dir", "/me"),
        ("VOLUME /$U /x", "volumes", ("/me", "/x")),
        ('VOLUME ["/$U"]', "volumes", ("/me",)),
        ("STOPSIGNAL $S", "stop_signal", "SIGINT"),
        ("EXPOSE $P", "exposed_ports", ("80/tcp", "90/udp")),
        ("LABEL $U=${U}x '$U'='$U'", "labels", {"me": "mex", "$U": "$U"}),
        ("CMD $U", "cmd", ("/bin/sh", "-c", "$U")),
        ('CMD ["$U"]', "cmd", ("$U",)),
        ("ENTRYPOINT $U", "entrypoint", ("/bin/sh", "-c", "$U")),
        ('SHELL ["$U"]', "shell", ("$U",)),
        ("HEALTHCHECK CMD $U", "healthcheck", Healthcheck(("CMD-SHELL", "$U"))),
        ("ONBUILD USER $U", "on_build", ("USER $U",)),
    ],
)
def test_where_variables_are_expanded(text: str, field: str, wanted: object) -> None:  # D36
    found = config("ENV U=me S=SIGINT P='80 90/udp'\n" + text)
    assert getattr(found, field) == wanted


def test_maintainer_is_not_expanded() -> None:  # D17, D36
    result = build("FROM base\nENV a=b\nMAINTAINER $a")
    assert (result.author, created_by("MAINTAINER me")) == ("$a", ["MAINTAINER me"])


# -- configuration


def test_cmd_of_the_base_falls_with_its_entrypoint() -> None:  # D16
    base = RunConfig(cmd=("old",), entrypoint=("e",))
    assert config('ENTRYPOINT ["x"]', base).cmd is None
    assert config('CMD ["new"]\nENTRYPOINT ["x"]', base).cmd == ("new",)
    assert config('ENTRYPOINT ["x"]\nCMD ["new"]', base).cmd == ("new",)
    assert config("USER x", base).cmd == ("old",)
    assert config("ENTRYPOINT []", base).entrypoint is None
    assert config("CMD []", base).cmd == ()
    assert build("FROM base AS a\nCMD x\nFROM a\nENTRYPOINT y").config.cmd is None


def test_last_one_wins() -> None:  # D16, D22, S31
    found = config('CMD a\nCMD ["b"]\nENTRYPOINT c\nENTRYPOINT ["d"]\nHEALTHCHECK CMD e\nHEALTHCHECK NONE')
    assert (found.cmd, found.entrypoint, found.healthcheck) == (("b",), ("d",), Healthcheck(("NONE",)))


def test_shell_in_force_at_the_instruction() -> None:  # D16, D21
    found = config('CMD a\nSHELL ["bash", "-c"]\nENTRYPOINT b')
    assert (found.cmd, found.entrypoint, found.shell) == (("/bin/sh", "-c", "a"), ("bash", "-c", "b"), ("bash", "-c"))
    assert config("CMD a", RunConfig(shell=("zsh", "-c"))).cmd == ("zsh", "-c", "a")


def test_labels_override_inherited_ones() -> None:  # D17, S32
    base = RunConfig(labels={"a": "1", "b": "2"})
    assert config('LABEL b=3 "c d"="e f"\nLABEL   Description = "This is a test"', base).labels == {
        "a": "1",
        "b": "3",
        "c d": "e f",
        "Description": "= This is a test",
    }


def test_exposed_ports() -> None:  # D18
    base = RunConfig(exposed_ports=("22/tcp",))
    assert config("EXPOSE 8000-8002/UDP 80 127.0.0.1:1:2", base).exposed_ports == (
        "2/tcp", "22/tcp", "80/tcp", "8000/udp", "8001/udp", "8002/udp",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("port", "message"),
    [
        ("x", "invalid containerPort: x"),
        ("65536", "invalid containerPort: 65536"),
        ("90-80", "invalid containerPort: 90-80"),
        ("80/http", 'invalid port: "80/http": invalid proto: http'),
        ("/tcp", 'invalid port: "/tcp": no port specified'),
        ("1-3:5-6", "invalid ranges specified for container and host Ports: 5-6 and 1-3"),
        ("a.b:1:2", "invalid IP address: a.b"),
        ("\u0668\u0660", "invalid containerPort: \u0668\u0660"),
    ],
)
def test_bad_ports(port: str, message: str) -> None:  # D18
    with pytest.raises(DockerfileError) as caught:
        config(f"EXPOSE {port}")
    assert (caught.value.message, caught.value.line) == (message, 2)


@pytest.mark.parametrize(
    ("signal", "good"),
    [("SIGTERM", 1), ("term", 1), ("9", 1), ("SIGRTMIN+3", 1), ("64", 1), ("0", 0), ("65", 0), ("SIGX", 0)],
)
def test_stop_signals(signal: str, good: int) -> None:  # D21
    if good:
        assert config(f"STOPSIGNAL {signal}").stop_signal == signal
    else:
        with pytest.raises(DockerfileError, match=f"^Invalid signal: {signal}$"):
            config(f"STOPSIGNAL {signal}")


def test_scratch() -> None:
    result = build("FROM scratch\nRUN true")
    assert result.config == RunConfig(env=(f"PATH={DEFAULT_PATH}",), working_dir="/")


# -- steps


def test_workdir_joins_and_makes_a_layer() -> None:  # D19
    result = build(
        "FROM base\nWORKDIR a\nWORKDIR ../b/./c/\nUSER u\nWORKDIR /\nWORKDIR x", RunConfig(working_dir="/base")
    )
    steps = [(type(s), getattr(s, "path", ""), getattr(s, "user", "")) for s in result.steps]
    assert steps == [
        (WorkdirStep, "/base/a", ""),
        (WorkdirStep, "/base/b/c", ""),
        (MetaStep, "", ""),
        (MetaStep, "", ""),  # the root is there already
        (WorkdirStep, "/x", "u"),
    ]
    assert [(h.created_by, h.empty_layer) for h in result.history][-2:] == [("WORKDIR /", True), ("WORKDIR /x", False)]
    assert result.config.working_dir == "/x"


def test_run() -> None:  # D09, D10, D15
    result = build(
        "FROM x AS tools\nFROM base\nWORKDIR /w\nUSER u:g\nENV D=/d\n"
        "RUN --network=none --mount=from=tools,target=t --mount=type=cache,target=$D --mount=type=ssh --mount=type=ssh,id=k make $D"
    )
    step = result.steps[-1]
    assert isinstance(step, RunStep)
    assert (step.argv, step.workdir, step.user, step.network) == (("/bin/sh", "-c", "make $D"), "/w", "u:g", "none")
    assert [(m.mount.type, m.mount.target, m.mount.id, m.source) for m in step.mounts] == [
        ("bind", "/w/t", "", StageRef(0)),
        ("cache", "/d", "/d", None),
        ("ssh", "/run/buildkit/ssh_agent.0", "default", None),
        ("ssh", "/run/buildkit/ssh_agent.1", "k", None),
    ]
    assert step_sources(step) == (StageRef(0),)


def test_exec_form_has_no_shell() -> None:  # D05
    step = build('FROM base\nRUN ["a", "$b"]').steps[0]
    assert isinstance(step, RunStep)
    assert step.argv == ("a", "$b")


def test_copy() -> None:  # D24, D26, D36
    step = build(
        "FROM x AS s\nFROM base\nENV S=src U=me M=0755\nWORKDIR /w\n"
        "COPY --from=s --chown=$U --chmod=$M --link --exclude=*.o $S ../up /abs '$S' d/"
    ).steps[-1]
    assert isinstance(step, CopyStep)
    assert (step.sources, step.dest, step.source) == (("src", "up", "abs", "$S"), "/w/d/", StageRef(0))
    assert (step.chown, step.chmod, step.link, step.exclude) == ("me", "0755", True, ("*.o",))
    assert step_sources(step) == (StageRef(0),)


@pytest.mark.parametrize(
    ("dest", "absolute"),
    [
        ("a", "/w/a"),
        ("a/", "/w/a/"),
        (".", "/w/"),
        ("./", "/w/"),
        ("..", "/"),
        ("/", "/"),
        ("/a/.", "/a/"),
        ("$N", "/w/"),
        ("//a", "/a"),
    ],
)
def test_destinations(dest: str, absolute: str) -> None:  # D24
    step = build(f"FROM base\nWORKDIR /w\nCOPY x {dest}").steps[-1]
    assert isinstance(step, CopyStep)
    assert step.dest == absolute


@pytest.mark.parametrize(
    ("source", "inside"),
    [
        ("a/b/", "a/b"),
        ("/a", "a"),
        ("../../a", "a"),
        (".", "."),
        ("/", "."),
        ("a/../../b", "b"),
        ("a*/[b]", "a*/[b]"),
        ("./a", "a"),
    ],
)
def test_sources_stay_inside(source: str, inside: str) -> None:  # D24, threat 19
    step = build(f"FROM base\nCOPY {source} /x").steps[-1]
    assert isinstance(step, CopyStep)
    assert step.sources == (inside,)


def test_pivots_of_parents_survive() -> None:  # D28
    step = build("FROM base\nCOPY --parents ../a/./b/c ./d/ /x/").steps[-1]
    assert isinstance(step, CopyStep)
    assert step.sources == ("a/./b/c", "d")


def test_heredocs_of_copy() -> None:  # D34
    step = build("FROM base\nENV v=1\nCOPY <<a <<'b' f /x/\n$v \"q\" \\$v\na\n$v\nb").steps[-1]
    assert isinstance(step, CopyStep)
    assert [(d.name, d.content, d.expands) for d in step.documents] == [
        ("a", '1 "q" $v\n', False),
        ("b", "$v\n", False),
    ]
    assert step.history is not None and step.history.created_by == "COPY f <<a <<b /x/ # buildkit"


@pytest.mark.parametrize(
    ("text", "argv", "script"),
    [
        ("RUN <<E\na\n$b\nE", "a\n$b\n", None),
        ("RUN <<-E\n\ta\n\tE", "a\n", None),
        ("RUN cat <<E\na\nE", "cat <<E\na\nE", None),
        ("RUN <<A cat <<B\n1\nA\n2\nB", "<<A cat <<B\n1\nA\n2\nB", None),
        ("RUN <<E\n#!/bin/x\na\nE", "/dev/pipes/E", "#!/bin/x\na\n"),
    ],
)
def test_heredocs_of_run(text: str, argv: str, script: str | None) -> None:  # D33
    step = build(f"FROM base\n{text}").steps[-1]
    assert isinstance(step, RunStep)
    assert step.argv == ("/bin/sh", "-c", argv)
    assert (step.script.content if step.script else None) == script
    assert step.heredocs


def test_kinds_of_sources_of_add() -> None:  # D29-D32
    step = build(
        "FROM base\nADD a.tar /b http://x/y.tgz https://x/r.git https://x/r.git?ref=v1#main:sub git@h:r git://h/r ssh://h/r https://x/.git/y /d/"
    ).steps[-1]
    assert isinstance(step, AddStep)
    assert [(s.kind, s.text) for s in step.sources[:2]] == [("local", "a.tar"), ("local", "b")]
    assert [s.kind for s in step.sources[2:]] == ["http", "git", "git", "git", "git", "git", "http"]
    checked = build("FROM base\nENV S=x\nADD --checksum=sha256:$S --unpack --keep-git-dir=false http://x/y /d").steps[
        -1
    ]
    assert isinstance(checked, AddStep)
    assert (checked.checksum, checked.unpack, checked.keep_git_dir) == ("sha256:x", True, False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ADD --checksum=sha256:x a b /c", "checksum can't be specified for multiple sources"),
        ("ADD --checksum=sha256:x a /c", "checksum requires HTTP(S) or Git sources"),
        ("COPY http://x/y /c", "source can't be a URL for COPY"),
        ("COPY https://x/y.git /c", "source can't be a git ref for COPY"),
        ("RUN --mount=target=/ x", 'invalid mount target "/"'),
        ("USER ${U:?who}", 'failed to process "${U:?who}": U: who'),
    ],
)
def test_what_only_expanded_values_show(line: str, message: str) -> None:  # D24, D29, D10
    with pytest.raises(DockerfileError) as caught:
        build(f"FROM base\n{line}")
    assert (caught.value.message, caught.value.line) == (message, 2)


# -- ONBUILD


def test_triggers_run_right_after_from_and_once() -> None:  # D23
    base = RunConfig(on_build=("ENV a=$b", "RUN x", "COPY --from=tools /x /y"))
    result = build("FROM t AS tools\nFROM scratch AS s\nFROM base\nENV c=$a\nONBUILD USER me", base)
    assert [step.title for step in result.steps] == [
        "ONBUILD ENV a=$b",
        "ONBUILD RUN x",
        "ONBUILD COPY --from=tools /x /y",
        "ENV c=",
        "ONBUILD USER me",
    ]
    assert step_sources(result.steps[2]) == (StageRef(0),)
    assert result.config.on_build == ("USER me",)
    assert [h.created_by for h in result.history] == [
        "ENV a=",
        "RUN /bin/sh -c x # buildkit",
        "COPY /x /y # buildkit",
        "ENV c=",
    ]


def test_triggers_of_a_stage_run_in_the_stages_built_from_it() -> None:  # D23
    text = "FROM base AS a\nONBUILD USER me\nFROM a AS b\nFROM b"
    assert build(text).config.on_build == ()
    assert build(text).config.user == "me"


@pytest.mark.parametrize("trigger", ["RUNN x", "", "FROM x", "RUN a\nRUN b", "ONBUILD RUN x", "COPY x", "USER ${x:?}"])
def test_bad_triggers_point_at_from(trigger: str) -> None:  # D23
    with pytest.raises(DockerfileError) as caught:
        build("ARG x\nFROM base", RunConfig(on_build=(trigger,)))
    assert caught.value.line == 2


# -- history


def test_history_in_buildkits_words() -> None:  # D47, S37
    assert created_by(
        'ARG A=1 B\nENV a=b "c d"=e\nLABEL x y z\nRUN apt-get \\\n  update\nRUN ["a", "b c"]\nCOPY --chown=u --chmod=1 a $a /c\n'
        'ADD f /g\nCMD ["a", "b\\"c"]\nENTRYPOINT d\nEXPOSE 90 80/udp\nVOLUME /v /w\nUSER u\nWORKDIR /x\nSTOPSIGNAL 9\n'
        'SHELL ["s", "-c"]\nHEALTHCHECK --interval=90s --retries=3 CMD x y\nONBUILD RUN q'
    ) == [
        "ARG A=1 B",
        "ENV a=b c d=e",
        "LABEL x=y z",
        "RUN |2 A=1 B= /bin/sh -c apt-get   update # buildkit",
        "RUN |2 A=1 B= a b c # buildkit",
        "COPY --chown=u --chmod=1 a b /c # buildkit",
        "ADD f /g # buildkit",
        'CMD ["a" "b\\"c"]',
        'ENTRYPOINT ["/bin/sh" "-c" "d"]',
        "EXPOSE [80/udp 90/tcp]",
        "VOLUME [/v /w]",
        "USER u",
        "WORKDIR /x",
        "STOPSIGNAL 9",
        "SHELL [s -c]",
        "HEALTHCHECK {Test:[CMD-SHELL x y] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}",
    ]


def test_history_in_the_words_of_the_classic_builder() -> None:  # S37
    result = build('FROM base\nARG A=1\nENV a=b\nRUN x\nCOPY a /b\nCMD ["c"]\nEXPOSE 80 90\nSHELL ["s", "-c"]\nUSER u')
    assert [entry.legacy for entry in result.history] == [
        "/bin/sh -c #(nop)  ARG A=1",
        "/bin/sh -c #(nop)  ENV a=b",
        "|1 A=1 /bin/sh -c x",
        "/bin/sh -c #(nop) COPY a in /b ",
        '/bin/sh -c #(nop)  CMD ["c"]',
        "/bin/sh -c #(nop)  EXPOSE 80/tcp 90/tcp",
        "s -c #(nop)  SHELL [s -c]",
        "s -c #(nop)  USER u",
    ]


def test_history_entries_line_up_with_layers() -> None:  # S37, D47
    result = build("FROM base\nRUN x\nUSER u\nCOPY a b\nWORKDIR /w\nONBUILD RUN y")
    layers = [step for step in result.steps if not isinstance(step, MetaStep)]
    assert sum(not entry.empty_layer for entry in result.history) == len(layers) == 3
    entry = result.history[0].entry("2020-01-01T00:00:00Z")
    assert (entry.comment, entry.created, entry.empty_layer) == (
        "buildkit.dockerfile.v0",
        "2020-01-01T00:00:00Z",
        False,
    )


def test_titles_mask_secrets_and_keep_shell_text() -> None:  # D14
    step = build("FROM base\nENV V=1\nRUN --mount=type=secret,id=t,env=T curl -H $T '$V' $V ${other}").steps[-1]
    assert step.title == "RUN --mount=type=secret,id=t,env=T curl -H **** '$V' 1 ${other}"
    assert build("FROM base\nrun echo 'open").steps[-1].title == "RUN echo 'open"


def test_the_same_arguments_give_the_same_steps() -> None:  # design decision 10
    text = "FROM base\nARG a=1\nRUN --mount=type=ssh x\nCOPY . .\nEXPOSE 1-9"
    assert build(text) == build(text)


def test_a_replaced_stage_runs_nothing() -> None:  # D46
    result = build("FROM base AS s\nRUN x", RunConfig(on_build=("RUN y",)), contexts=["s"])
    assert result.steps == ()
