"""What `build` refuses before there is a build, and the limits that it hands to RUN (C01, D42, D43, D49)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.testing.builds import busybox_tar, fill
from lamina.testing.commandline import CommandLine
from lamina.testing.fake_runtime import why_no_containers

pytestmark = pytest.mark.root
FILES = {"Dockerfile": "FROM scratch\nCOPY . /\n", "a": "A"}


@pytest.fixture
def lamina(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path, {"PATH": os.environ["PATH"]})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], 'ERROR: unable to prepare context: path "none" not found\n'),
        (["-f", "none", "ctx"], "ERROR: failed to solve: failed to read dockerfile: open none: no such file or directory\n"),
        (["-f", "-", "-"], "ERROR: invalid argument: can't use stdin for both build context and dockerfile\n"),
        (["--network", "nope", "ctx"], "network mode 'nope' is not supported by build\nHint: use default, host or none\n"),
    ],
)  # fmt: skip
def test_a_build_that_cannot_begin(lamina: CommandLine, arguments: list[str], said: str):
    fill(lamina.folder / "ctx", FILES)
    done = lamina("build", *arguments)
    assert (done.status, done.out, done.err) == (1, "", said)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--add-host=bad", 'invalid argument "bad" for "--add-host" flag: bad format for add-host: "bad"'),
        ("--add-host=a:b", 'invalid argument "a:b" for "--add-host" flag: invalid IP address in add-host: "b"'),
        ("--ulimit=nofile", 'invalid argument "nofile" for "--ulimit" flag: invalid ulimit argument: nofile'),
        ("--ulimit=x=1", 'invalid argument "x=1" for "--ulimit" flag: invalid ulimit type: x'),
    ],
)
def test_a_flag_is_checked_though_nothing_runs(lamina: CommandLine, flag: str, said: str):
    done = lamina("build", flag, str(fill(lamina.folder / "context", FILES)))
    assert (done.status, done.err.splitlines()[0]) == (125, said)


@pytest.mark.parametrize(
    ("line", "said"), [("!", 'illegal exclusion pattern: "!"'), ("[a", 'syntax error in pattern "[a"')]
)
def test_a_wrong_ignore_file_is_shown_with_its_line(lamina: CommandLine, line: str, said: str):
    where = fill(lamina.folder / "context", {**FILES, ".dockerignore": f"x\n{line}\n"})
    done = lamina("build", str(where))
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[0] == ".dockerignore:2"
    assert f"   2 | >>> {line}" in done.err.splitlines()
    assert done.err.endswith(f"ERROR: failed to solve: {said}\n")


@pytest.mark.runtime
@pytest.mark.skipif(bool(why_no_containers()), reason=why_no_containers() or "")
def test_limits_hold_for_run(lamina: CommandLine):
    lamina.ok("import", "-", "base", stdin=busybox_tar())
    where = fill(lamina.folder / "context", {"Dockerfile": "FROM base\nRUN ulimit -Sn; ulimit -Hn\n"})
    for limit, shown in (("nofile=33:44", ["33", "44"]), ("nofile=35", ["35", "35"])):
        done = lamina("build", "--progress=plain", "--network=none", f"--ulimit={limit}", str(where))
        assert done.status == 0, done.err
        assert [line.split()[-1] for line in done.err.splitlines() if line.startswith("#5 0.")] == shown
