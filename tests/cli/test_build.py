"""`lamina build` as a user meets it: transcript, exit codes, `-q`, `--iidfile`, warnings, Ctrl-C (C01, B03, S26, D49)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.linux.mounts import mount_points
from lamina.testing.builds import busybox_tar, fill
from lamina.testing.commandline import CommandLine
from lamina.testing.fake_runtime import why_no_containers

pytestmark = [
    pytest.mark.root,
    pytest.mark.runtime,
    pytest.mark.skipif(bool(why_no_containers()), reason=why_no_containers() or "-"),
]


@pytest.fixture
def lamina(tmp_path: Path) -> Iterator[CommandLine]:
    run = CommandLine(tmp_path, {"PATH": os.environ["PATH"]})
    run.ok("import", "-", "base", stdin=busybox_tar())
    yield run
    from lamina.engine.engine import Engine
    from lamina.engine.settings import Settings

    with Engine(Settings.at(str(run.root))) as engine:
        engine.bridges.remove_bridges()
    assert mount_points(str(tmp_path)) == []


def _context(lamina: CommandLine, dockerfile: str, **files: str) -> str:
    fill(lamina.folder / "ctx", {"Dockerfile": dockerfile, **files})
    return "ctx"


def test_the_transcript(lamina: CommandLine):
    # B03
    where = _context(lamina, "FROM base\nRUN echo hello from a step\nCOPY f /f\n", f="x")
    done = lamina("build", "--network", "none", "-t", "app:1", where)  # flags before the context
    assert done.status == 0
    assert done.out == ""
    assert re.search(r"^#\d+ \[1/3\] FROM docker\.io/library/base:latest$", done.err, re.MULTILINE)
    assert re.search(r"^#\d+ \[2/3\] RUN echo hello from a step$", done.err, re.MULTILINE)
    assert re.search(r"^#\d+ \d+\.\d+ hello from a step$", done.err, re.MULTILINE)
    assert re.search(r"^#\d+ naming to docker\.io/library/app:1 .*done$", done.err, re.MULTILINE)
    again = lamina("build", where, "--network=none", "-t", "app:1")  # and behind it (S26)
    assert re.search(r"^#\d+ CACHED$", again.err, re.MULTILINE)


def _plain(text: str) -> str:
    """A transcript without what differs from build to build."""
    text = re.sub(r"sha256:[0-9a-f]{64}", "<id>", text)
    return re.sub(r"(?m) \d+\.\d+s( done)?$", lambda found: found[1] or "", text)


def test_the_whole_transcript_of_a_build_and_of_a_cached_one(lamina: CommandLine):
    # B03, S27
    where = _context(lamina, "FROM base\nCOPY f g /\nCOPY f /again\n", f="x" * 1_500, g="y")
    opening = (
        "#1 [internal] load build definition from Dockerfile\n#1 transferring dockerfile: 35B done\n#1 DONE\n\n"
        "#2 [internal] load metadata for docker.io/library/base:latest\n#2 DONE\n\n"
        "#3 [internal] load .dockerignore\n#3 transferring context: {ignore}B done\n#3 DONE\n\n"
        "#4 [internal] load build context\n#4 transferring context: {context} done\n#4 DONE\n\n"
        "#5 [1/3] FROM docker.io/library/base:latest\n#5 {end}\n\n"
        "#6 [2/3] COPY f g /\n#6 {end}\n\n"
        "#7 [3/3] COPY f /again\n#7 {end}\n\n"
        "#8 exporting to image\n#8 exporting layers done\n#8 writing image <id> done\n"
        "#8 naming to docker.io/library/app:1 done\n#8 DONE\n"
    )
    first = lamina("build", "-t", "app:1", where)
    read = re.search(r"#4 transferring context: (\S+)", first.err)
    assert read is not None
    assert _plain(first.err) == opening.format(ignore=2, context=read[1], end="DONE")
    again = lamina("build", "-t", "app:1", where)
    read = re.search(r"#4 transferring context: (\S+)", again.err)
    assert read is not None
    assert _plain(again.err) == opening.format(ignore=2, context=read[1], end="CACHED")
    (lamina.folder / "ctx" / ".dockerignore").write_text("nothing\n")
    assert "#3 [internal] load .dockerignore\n#3 transferring context: 8B done\n" in lamina("build", where).err


def test_only_an_image_below_counts_as_a_step(lamina: CommandLine):
    # B03: a stage on nothing, or on another stage, begins with its first instruction
    where = _context(lamina, "FROM scratch AS one\nCOPY f /\nWORKDIR /w\nFROM one\nCOPY f /g\n", f="x")
    steps = re.findall(r"^#\d+ (\[[^i\n]* \d+/\d+\] .*)$", lamina("build", where).err, re.MULTILINE)
    assert steps == ["[one 1/2] COPY f /", "[one 2/2] WORKDIR /w", "[stage-1 1/1] COPY f /g"]


def test_a_copy_of_nothing_fails_in_its_own_line(lamina: CommandLine):
    # threat 33
    where = _context(lamina, "FROM base\nCOPY f /\nCOPY nope /\n", f="x")
    failed = lamina("build", where)
    message = 'failed to compute cache key: failed to calculate checksum: "/nope": not found'
    assert failed.status == 1
    assert re.search(rf"^#\d+ \[3/3\] COPY nope /\n#\d+ ERROR: {message}$", failed.err, re.MULTILINE)
    assert "\n > [3/3] COPY nope /:\n" in failed.err
    assert failed.err.endswith(f"ERROR: failed to solve: {message}\n")


def test_a_failing_steps_log_is_whole_and_its_end_comes_again(lamina: CommandLine):
    # D49
    where = _context(lamina, "FROM base\nRUN seq 1 200000; exit 7\n")
    failed = lamina("build", "--network", "none", where)
    assert len(failed.err) > 1 << 20
    shown = [int(found) for found in re.findall(r"(?m)^#\d+ \d+\.\d+ (\d+)$", failed.err)]
    assert shown == list(range(1, 200_001))
    report = failed.err.split("------\n")[1]
    assert re.findall(r"(?m)^\d+\.\d+ (\d+)$", report) == [str(number) for number in range(199_991, 200_001)]
    quiet = lamina("build", "-q", "--network", "none", where)
    assert "200000\n------\n" in quiet.err


def test_what_a_step_overwrote_is_not_shown(lamina: CommandLine):
    where = _context(lamina, "FROM base\nRUN printf 'at 5%%\\rat 10%%\\r\\n'; printf 'rest\\r'\n")
    done = lamina("build", "--network", "none", where)
    assert re.findall(r"(?m)^#\d+ \d+\.\d+ (.*)$", done.err) == ["at 10%", "rest"]


def test_labels_target_and_platform_are_those_of_the_image(lamina: CommandLine):  # C01
    lamina.ok("import", "--platform", "linux/s390x", "-", "foreign", stdin=busybox_tar())
    where = _context(lamina, "FROM foreign AS one\nLABEL a=file c=file\nFROM one\nCOPY Dockerfile /later\n")
    flags = ("--label", "a=flag", "--label", "b", "--target", "one", "--platform", "linux/s390x")
    lamina.ok("build", "-q", *flags, "-t", "app", where)
    shown = "{{json .Config.Labels}} {{.Architecture}} {{len .RootFS.Layers}}"
    assert lamina.ok("inspect", "-f", shown, "app") == '{"a":"flag","b":"","c":"file"} s390x 1\n'
    refused = lamina("build", "--target", "none", where)
    assert refused.status == 1
    assert "none" in refused.err


def test_pull_asks_the_registry_for_a_base_that_is_here(lamina: CommandLine):  # C01 --pull
    lamina.ok("tag", "base", "localhost:1/base")  # nobody listens there
    where = _context(lamina, "FROM localhost:1/base\nCOPY Dockerfile /\n")
    lamina.ok("build", "-q", where)
    refused = lamina("build", "--pull", where)
    assert refused.status == 1
    assert "localhost:1" in refused.err


def test_quiet_prints_the_id_alone_and_iidfile_holds_it(lamina: CommandLine):
    where = _context(lamina, "FROM base\nLABEL a=b\n")
    done = lamina("build", "-q", "--iidfile", "id", where)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", done.out)
    assert done.err == ""
    assert (lamina.folder / "id").read_text() == done.out.strip()


def test_a_failing_step_fails_the_command_with_its_excerpt(lamina: CommandLine):
    # D49
    where = _context(lamina, "FROM base\nRUN echo why; exit 3\n")
    done = lamina("build", "--network", "none", "--iidfile", "id", where)
    assert done.status == 1
    assert "Dockerfile:2" in done.err
    assert ">>> RUN echo why; exit 3" in done.err
    last = 'ERROR: failed to solve: process "/bin/sh -c echo why; exit 3" did not complete successfully: exit code: 3'
    assert done.err.rstrip().splitlines()[-1] == last
    assert not (lamina.folder / "id").exists()
    quiet = lamina("build", "-q", "--network", "none", where)
    assert quiet.err.count("why\n") == 1


def test_warnings_come_after_the_build(lamina: CommandLine):
    # D37, D48
    where = _context(lamina, "FROM base\nMAINTAINER me\n")
    done = lamina("build", "--build-arg", "none=1", where)
    assert done.status == 0
    assert "[Warning] One or more build-args [none] were not consumed" in done.err
    assert "1 warning found:\n - MaintainerDeprecated: " in done.err
    assert done.err.rstrip().endswith("(line 2)")


def test_arguments_come_from_the_environment_when_only_named(lamina: CommandLine):
    where = _context(lamina, "FROM base\nARG a\nARG b=default\nLABEL a=$a b=$b\n")
    lamina.env["a"] = "from env"
    lamina.ok("build", "--build-arg", "a", "--build-arg", "b", "-t", "x", where)
    assert (
        lamina.ok("image", "inspect", "-f", "{{json .Config.Labels}}", "x").strip() == '{"a":"from env","b":"default"}'
    )


def test_a_dockerfile_and_a_context_on_standard_input(lamina: CommandLine):
    # D43
    lamina.ok("build", "-t", "x", "-", stdin=b"FROM base\nLABEL from=stdin\n")
    assert "stdin" in lamina.ok("image", "inspect", "-f", "{{json .Config.Labels}}", "x")


def test_what_steps_write_cannot_reach_the_terminal(lamina: CommandLine):
    # threat 32
    where = _context(lamina, r"FROM base" "\n" r"RUN printf '\033]0;owned\007\033[2Jtext\n'" "\n")
    for terminal in (False, True):
        done = lamina("build", "--progress", "plain", "--network", "none", "--no-cache", where, terminal=terminal)
        assert done.status == 0
        assert "\x1b]0;" not in done.err
        assert "\x07" not in done.err
        assert "text" in done.err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--progress", "fancy", "ctx"), 1, "fancy"),
        (("-t", "UPPER", "ctx"), 125, "repository name"),
        (("--no-such-flag", "ctx"), 125, "unknown flag: --no-such-flag"),
        (("none",), 1, 'path "none" not found'),
        (("--target", "nope", "ctx"), 1, "nope"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(lamina: CommandLine, arguments: tuple[str, ...], status: int, message: str):
    _context(lamina, "FROM base\nLABEL a=b\n")
    done = lamina("build", *arguments)
    assert done.status == status, done.err
    assert message in done.err
    assert "Traceback" not in done.err


def test_interrupting_kills_the_step_and_leaves_nothing(lamina: CommandLine):
    # F22
    where = _context(lamina, "FROM base\nRUN echo kept > /kept\nRUN echo begun; sleep 1000\n")
    command = [sys.executable, "-m", "lamina", "--root", str(lamina.root), "build", "--network", "none", where]
    with subprocess.Popen(
        command, cwd=lamina.folder, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if re.match(r"#\d+ \d+\.\d+ begun", line):
                break
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read()
    assert child.returncode == 130, rest
    assert "Traceback" not in rest
    assert mount_points(str(lamina.folder)) == []
    _context(lamina, "FROM base\nRUN echo kept > /kept\n")
    assert "CACHED" in lamina("build", "--network", "none", where).err


def test_a_cached_build_starts_no_runtime_and_imports_little(lamina: CommandLine):
    where = _context(lamina, "FROM base\nRUN true\nCOPY f /f\nWORKDIR /w\n", f="x")
    lamina.ok("build", "--network", "none", where)
    code = (
        "import sys\nfrom lamina.cli.main import entry\ntry:\n    entry()\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--root", str(lamina.root), "build", "--network", "none", where],
        cwd=lamina.folder, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stderr.count("CACHED") == 4
    loaded = set(done.stdout.split())
    heavy = {"concurrent.futures", "logging", "subprocess", "tempfile", "shutil", "lzma", "ssl", "uuid", "http.client"}
    assert loaded & heavy == set()
    assert not {"lamina.runtime.executor", "lamina.layer.apply", "lamina.runtime.network.pool"} & loaded
