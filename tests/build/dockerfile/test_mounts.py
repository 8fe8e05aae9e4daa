"""RUN and its mounts: D09-D15."""

from __future__ import annotations

import pytest

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.expand import Mode, expand
from lamina.build.dockerfile.instructions import Mount, Run
from lamina.build.dockerfile.instructions.run import Device
from lamina.build.dockerfile.parser import parse


class Variables:
    """Expands from a fixed environment."""

    def __init__(self) -> None:
        self.env = {"DIR": "/dir", "KIND": "cache"}

    def word(self, text: str) -> str:
        return expand(text, self.env).text

    def words(self, text: str) -> tuple[str, ...]:
        return expand(text, self.env).words

    def body(self, text: str) -> str:
        return expand(text, self.env, Mode(quotes=False)).text


def run(flags: str) -> Run:
    instruction = parse(f"FROM base\nRUN {flags} true").instructions[1]
    assert isinstance(instruction, Run)
    return instruction.expanded(Variables())


def mount(value: str) -> Mount:
    (result,) = run(f"--mount={value}").mounts
    return result


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("target=/a", Mount("bind", "/a")),
        ("type=bind,source=s,target=/a,from=build,rw", Mount("bind", "/a", "s", "build", read_only=False)),
        ("type=bind,src=s,dst=/a,ro=false", Mount("bind", "/a", "s", read_only=False)),
        ("TYPE=Cache,Destination=/a,sharing=LOCKED", Mount("cache", "/a", read_only=False, sharing="locked")),
        ("type=$KIND,target=$DIR/x", Mount("cache", "/dir/x", read_only=False)),
        ("type=cache,target=/a,ro,id=i,mode=0700,uid=1,gid=2", Mount("cache", "/a", id="i", mode=0o700, uid=1, gid=2)),
        ("type=tmpfs,target=/a,size=64m", Mount("tmpfs", "/a", read_only=False, size=64 << 20)),
        ("type=tmpfs,target=/a,size=1.5GiB", Mount("tmpfs", "/a", read_only=False, size=3 << 29)),
        ("type=secret,id=i", Mount("secret", id="i")),
        ("type=secret,id=i,env=TOKEN,required", Mount("secret", id="i", env="TOKEN", required=True)),
        ("type=secret,id=i,env=", Mount("secret", id="i", env="i")),
        ("required=true,type=ssh", Mount("ssh", required=True)),
        ("type=ssh,required=false", Mount("ssh")),
        ('"type=bind","source=a,b",target=/x', Mount("bind", "/x", "a,b")),
        ("target='/a b'", Mount("bind", "/a b")),
    ],
)
def test_values(value: str, wanted: Mount) -> None:  # D10-D14
    # The shell quotes of a flag are resolved before its commas are.
    assert mount(value.replace('"', '\\"')) == wanted


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("type=chache,target=/a", 'unsupported mount type "chache" (did you mean cache?)'),
        ("traget=/a", "unexpected key 'traget' in 'traget=/a' (did you mean target?)"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("", "unexpected key '' in ''"),
        ("from=$X,target=/a", "'from' doesn't support variable expansion, define alias stage instead"),
        ("type=cache,target=/a,sharing=free", 'unsupported sharing value "free"'),
        ("type=bind,target=/a,sharing=locked", "invalid cache sharing set for bind mount"),
        ("type=secret,id=a,sharing=locked", "secret mount should not define sharing"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=ssh,source=a", "ssh does not support source"),
        ("target=/a,required", "unexpected key 'required' for mount type 'bind'"),
        ("target=/a,size=1m", "unexpected key 'size' for mount type 'bind'"),
        ("target=/a,mode=0700", 'mode not allowed for "bind" type mounts'),
        ("type=tmpfs,target=/a,uid=1", 'uid not allowed for "tmpfs" type mounts'),
        ("type=cache,target=/a,mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/a,uid=x", "invalid value x for uid"),
        ("type=cache,target=/a,gid=4294967296", "invalid value 4294967296 for gid"),
        ("target=/a,ro=maybe", "invalid value for readonly: maybe"),
        ("type=tmpfs,target=/a,size=x", "invalid value for size: x"),
        ('type=bind,\\"source=a', None),
    ],
)
def test_wrong_values(value: str, message: str | None) -> None:  # D10-D14
    with pytest.raises(DockerfileError) as caught:
        mount(value)
    assert message is None or caught.value.message == f"dockerfile parse error on line 2: {message}"


def test_values_with_variables_are_checked_when_expanded() -> None:  # D10
    with pytest.raises(DockerfileError, match='unsupported mount type "/dir"'):
        mount("type=$DIR,target=/a")


@pytest.mark.parametrize(
    ("value", "target", "identity"),
    [
        ("target=a/b", "/work/a/b", ""),
        ("target=/a/../b/", "/b", ""),
        ("target=../../../x", "/x", ""),
        ("type=cache,target=/a/", "/a", "/a"),
        ("type=cache,target=a", "/work/a", "a"),
        ("type=cache,target=/a,id=i", "/a", "i"),
        ("type=secret,id=aws", "/run/secrets/aws", "aws"),
        ("type=secret,source=dir/aws", "/run/secrets/aws", "dir/aws"),
        ("type=secret,target=/etc/token", "/etc/token", "token"),
        ("type=secret,id=a,env=A", "", "a"),
        ("type=secret,id=a,env=A,target=/f", "/f", "a"),
        ("type=ssh", "/run/buildkit/ssh_agent.3", "default"),
        ("type=ssh,id=k,target=/s", "/s", "k"),
    ],
)
def test_where_mounts_appear(value: str, target: str, identity: str) -> None:  # D10, D12-D14
    placed = mount(value).placed("/work", 3)
    assert (placed.target, placed.id) == (target, identity)


def test_the_root_is_no_target() -> None:  # D10
    for value in ("target=/", "target=/a/..", "target=.."):
        with pytest.raises(DockerfileError, match='invalid mount target "/"'):
            mount(value).placed("/work")


def test_default_permissions() -> None:  # D12-D14
    assert [mount(f"type={kind},target=/a").permissions for kind in ("cache", "secret", "ssh")] == [0o755, 0o400, 0o600]


def test_network_security_and_devices() -> None:  # D15
    instruction = run("--network=none --security=insecure --device=vendor.com/gpu=all,required --device=name=x")
    assert (instruction.network, instruction.security) == ("none", "insecure")
    assert instruction.devices == (Device("vendor.com/gpu=all", required=True), Device("x"))
    assert (run("").network, run("").security) == ("default", "sandbox")
    for flags, message in (
        ("--network=hots", 'invalid network mode "hots" (did you mean host?)'),
        ("--security=none", 'security "none" is not valid'),
        ("--device=required", "names no device"),
        ("--device=a,b", "device name already set to a"),
        ("--device=", "invalid field"),
    ):
        with pytest.raises(DockerfileError) as caught:
            run(flags)
        assert message in caught.value.message


def test_run_without_a_command() -> None:  # D09: as BuildKit, the shell is started with nothing to do
    instruction = parse("FROM x\nRUN").instructions[1]
    assert isinstance(instruction, Run)
    assert instruction.command.argv(("/bin/sh", "-c")) == ("/bin/sh", "-c", "")
    with pytest.raises(DockerfileError, match="RUN requires at least one argument"):
        parse("FROM x\nRUN []")
