"""What docker 28.2.2 says and answers where scripts look: taken down from the real client beside a dockerd (C01-C53)."""

from __future__ import annotations

import json
import subprocess

import pytest

from lamina.testing.commandline import CommandLine
from lamina.testing.dockerd import DockerMissing, reference_client
from lamina.testing.images import tar_of

DAEMON = "Error response from daemon: "
TAG = "Error parsing reference: "
MOUNT_USAGE = (
    "\n\nUsage:  lamina run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'lamina run --help' for more information"
)


@pytest.fixture
def lamina(tmp_path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def app(lamina: CommandLine) -> CommandLine:
    """A store with the image `app`."""
    changes = ("-c", 'CMD ["sh"]', "-c", "ENV A=b", "-c", "EXPOSE 80")
    lamina.ok("import", *changes, "-", "app", stdin=tar_of([("data", b"x" * 2500)]))
    return lamina


# --- names of images: refused by the client, without the daemon's prefix ---------------------------------------------


@pytest.mark.parametrize(
    "words", [("pull", "Bad Name"), ("push", "Bad Name"), ("import", "-", "Bad Name")], ids=lambda words: words[0]
)
def test_names_in_capitals(lamina: CommandLine, words: tuple[str, ...]):  # C03, C08, C09
    outcome = lamina(*words)
    expected = "invalid reference format: repository name (library/Bad Name) must be lowercase\n"
    assert (outcome.status, outcome.err) == (1, expected)


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("", "x", TAG + '"" is not a valid repository/tag: invalid reference format'),
        (
            "Bad Name",
            "x",
            TAG + '"Bad Name" is not a valid repository/tag: invalid reference format: repository name'
            " (library/Bad Name) must be lowercase",
        ),
        ("app", "", TAG + '"" is not a valid repository/tag: invalid reference format'),
        ("app", "a@sha256:" + "0" * 64, "refusing to create a tag with a digest reference"),
    ],
)
def test_tag_checks_both_names_first(app: CommandLine, source: str, target: str, said: str):  # C12
    outcome = app("tag", source, target)
    assert (outcome.status, outcome.err) == (1, said + "\n")


# --- formats ---------------------------------------------------------------------------------------------------------


def test_json_of_a_row_escapes_as_its_marshaler_does(app: CommandLine):  # C53
    assert r'"Digest":"\u003cnone\u003e"' in app.ok("images", "--format", "{{json .}}")
    assert r'"Digest":"\u003cnone\u003e"' in app.ok("images", "--format", "json")
    assert app.ok("images", "--format", "{{json .Digest}}") == '"<none>"\n'


def test_virtual_size_has_four_digits(app: CommandLine):  # C06
    app.ok("import", "-", "big", stdin=tar_of([("data", b"x" * 12_345)]))
    assert app.ok("images", "big", "--format", "{{.Size}} {{.VirtualSize}}") == "12.3kB 12.35kB\n"


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{.Config.Entrypoint}}{{.Config.Volumes}}{{.Config.Healthcheck}}|{{.Config.User}}|", "[]map[]<nil>||"),
        ("{{json .Config}}", '{"ExposedPorts":{"80/tcp":{}},"Env":["A=b"],"Cmd":["sh"]}'),
        ("{{json .Config.Entrypoint}}{{len .Config.Labels}}", "null0"),
        ("{{range .Config.OnBuild}}x{{else}}none{{end}}", "none"),
        ("{{.RepoDigests}}", "[]"),
    ],
)
def test_templates_of_inspect_see_docker_s_types(app: CommandLine, template: str, shown: str):  # C04, C53
    assert app.ok("image", "inspect", "app", "--format", template) == shown + "\n"


def test_the_raw_object_keeps_the_daemon_s_members(app: CommandLine):  # C04
    config = json.loads(app.ok("image", "inspect", "app"))[0]["Config"]
    assert list(config) == sorted(config)
    assert (config["Entrypoint"], config["Volumes"]) == (None, None)


def test_a_binding_of_a_port_prints_as_a_struct():  # C21
    from lamina.cli.format.inspecting import render

    container = {"NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "80"}], "81/tcp": None}}}
    assert render([container], "{{.NetworkSettings.Ports}}") == "map[80/tcp:[{0.0.0.0 80}] 81/tcp:[]]\n"
    assert render([container], "{{json .NetworkSettings.Ports}}") == (
        '{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"80"}],"81/tcp":null}\n'
    )
    first = '{{(index (index .NetworkSettings.Ports "80/tcp") 0).%s}}'
    assert render([container], first % "HostPort") == "80\n"
    assert render([container], first % "HostIp") == "0.0.0.0\n"  # by way of the raw object


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("version", "-f", "{{.Foo}}"),
            'template: version:1:2: executing "version" at <.Foo>: can\'t evaluate field Foo in type system.versionInfo',
        ),
        (
            ("version", "-f", "{{.Client.Foo}}"),
            (
                'template: version:1:9: executing "version" at <.Client.Foo>: '
                "can't evaluate field Foo in type system.clientVersion"
            ),
        ),
        (
            ("info", "-f", "{{.Foo}}"),
            'template: :1:2: executing "" at <.Foo>: can\'t evaluate field Foo in type system.dockerInfo',
        ),
    ],
)
def test_facts_that_are_not_there(lamina: CommandLine, words: tuple[str, ...], said: str):  # C36, C37
    outcome = lamina(*words)
    assert (outcome.status, outcome.out, outcome.err) == (1, "\n", said + "\n")


def test_kill_of_what_is_not_there(app: CommandLine):  # C22
    assert app("kill", "nope").err == DAEMON + "cannot kill container: nope: No such container: nope\n"


def test_size_is_of_containers_only(app: CommandLine):  # C41
    assert app("inspect", "-s", "app").err == "WARNING: --size ignored for image\n"


# --- filters, prompts, help ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("images",), ("image", "prune", "-f"), ("container", "ls")])
def test_an_empty_filter_is_none(app: CommandLine, command: tuple[str, ...]):  # C06, C24
    assert app(*command, "--filter", "").status == 0


@pytest.mark.parametrize(("answer", "gone"), [(b"", False), (b"n\n", False), (b"y\n", True), (b"YES\n", True)])
def test_prompts(lamina: CommandLine, answer: bytes, gone: bool):  # C07
    lamina.ok("import", "-", stdin=tar_of([("data", b"x")]))
    outcome = lamina("image", "prune", stdin=answer)
    assert outcome.status == 0
    question = "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
    assert outcome.out.startswith(question)
    assert (outcome.out == question) is not gone


@pytest.mark.peer
@pytest.mark.parametrize(
    "name",
    [
        "attach", "commit", "container cp", "container inspect", "container ls", "container prune", "cp", "diff",
        "exec", "export", "history", "image import", "image inspect", "image prune", "image rm", "images", "info",
        "inspect", "kill", "load", "login", "logout", "logs", "network inspect", "network ls", "pause", "port", "pull",
        "push", "rename", "restart", "rm", "save", "stats", "stop", "system prune", "tag", "top", "unpause",
        "volume inspect", "volume prune", "volume rm", "wait",
    ],
)  # fmt: skip
def test_help_is_docker_s(lamina: CommandLine, name: str):  # S18
    try:
        program = reference_client()
    except DockerMissing as why:
        pytest.skip(str(why))
    done = subprocess.run(
        [program, *name.split(), "--help"], capture_output=True, text=True, env={"DOCKER_HOST": "unix:///nowhere"}
    )
    theirs = (
        done.stdout.replace("docker", "lamina")
        .replace(".lamina", ".docker")
        .replace("Docker objects", "lamina objects")
    )
    assert lamina.ok(*name.split(), "--help") == theirs.replace("docs.lamina.com", "docs.docker.com")


# --- changes of an import --------------------------------------------------------------------------------------------


def test_a_change_without_instruction(lamina: CommandLine):  # C03
    outcome = lamina("import", "-c", "", "-", stdin=tar_of([("data", b"x")]))
    assert (outcome.status, outcome.err) == (1, DAEMON + "file with no instructions\n")


# --- run: what the client refuses, and what the engine refuses before anything is made --------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "EOF"),
        ("dst", "invalid field 'dst' must be a key=value pair"),
        ("foo=bar", "unexpected key 'foo' in 'foo=bar'"),
        ("type=bind,src=/tmp", "target is required"),
        ("type=tmpfs,dst=/t,tmpfs-size=x", "invalid value for tmpfs-size: x"),
        ("type=tmpfs,dst=/t,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
        ("src=x,dst=/x,readonly=foo", "invalid value for readonly: foo"),
        ("type=bind,src=/tmp,dst=/x,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
    ],
)
def test_mounts_that_the_client_refuses(lamina: CommandLine, value: str, said: str):  # C54
    outcome = lamina("run", "--mount", value, "app")
    assert outcome.status == 125
    assert outcome.err == f'invalid argument "{value}" for "--mount" flag: {said}{MOUNT_USAGE}\n'


@pytest.mark.root
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("-m", "1k"), "Minimum memory limit allowed is 6MB"),
        (("--cpus", "9000"), "range of CPUs is from 0.01 to "),
        (("--cpus", "-1"), "range of CPUs is from 0.01 to "),
        (("-m", "10m", "--memory-swap", "7m"), "Minimum memoryswap limit should be larger than memory limit"),
        (("--network", "container:"), "invalid network mode: invalid container format container:<name|id>"),
        (("--network", "container:x", "-h", "foo"), "conflicting options: hostname and the network mode"),
        (
            ("--network", "container:x", "-p", "80:80"),
            "conflicting options: port publishing and the container type network mode",
        ),
        (("--mount", "type=foo,dst=/x"), 'invalid mount config for type "foo": mount type unknown'),
        (
            ("--mount", "type=bind,src=/tmp,dst=/x,bind-propagation=foo"),
            'invalid mount config for type "bind": invalid propagation mode: foo',
        ),
        (("--tmpfs", "/t:foo=1"), 'invalid tmpfs option ["foo" "1"]'),
        (("-v", "v:/data"), "create v: volume name is too short, names should be at least two alphanumeric characters"),
    ],
)
def test_options_that_the_engine_refuses(app: CommandLine, flags: tuple[str, ...], said: str):  # C13, C54
    outcome = app("create", *flags, "app")
    assert outcome.status == 1
    assert outcome.err.startswith(DAEMON + said)
    assert app.ok("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--restart", "on-failure:x"), "invalid restart policy format: maximum retry count must be an integer"),
        (("-v", ""), "invalid empty volume spec"),
        (
            ("--platform", "foo"),
            'error parsing specified platform: "foo": unknown operating system or architecture: invalid argument',
        ),
    ],
)
def test_options_that_the_client_refuses(lamina: CommandLine, flags: tuple[str, ...], said: str):  # C13
    outcome = lamina("run", *flags, "app")
    assert (outcome.status, outcome.err.splitlines()[0]) == (125, f"lamina: {said}")
