"""Failures, cancellation and death in the middle: what is reported, and that nothing is left behind (D49, F2, F9, F22)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lamina.build.builder import BuildFailed
from lamina.build.ops.run import CommandFailed
from lamina.build.progress import BuildEvent, VertexLog
from lamina.errors import Cancelled
from lamina.linux.mounts import mount_points
from lamina.testing.builds import Events, Workshop

pytestmark = [pytest.mark.root, pytest.mark.runtime]


def _names(workshop: Workshop, name: str) -> str:
    return str(workshop.engine.images.get(name).image.id)


def _runs(workshop: Workshop) -> list[str]:
    """What is left of commands in the run root."""
    folder = Path(workshop.engine.settings.run_root, "exec")
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def test_a_failing_command_tells_its_code_its_output_and_its_place(workshop: Workshop):
    # D49
    with pytest.raises(BuildFailed) as caught:
        workshop.build("FROM base\n\nRUN echo out; echo err >&2; \\\n    exit 42\n", tags=["x"])
    failure = caught.value
    assert isinstance(failure.cause, CommandFailed)
    assert failure.cause.exit_code == 42
    assert failure.message == (
        'failed to solve: process "/bin/sh -c echo out; echo err >&2;     exit 42" did not complete successfully: '
        "exit code: 42"
    )
    assert sorted(failure.output.split()) == ["err", "out"]
    assert failure.excerpt.splitlines()[0] == "Dockerfile:3"
    assert [line for line in failure.excerpt.splitlines() if ">>>" in line] == [
        "   3 | >>> RUN echo out; echo err >&2; \\",
        "   4 | >>>     exit 42",
    ]
    assert _runs(workshop) == []


@pytest.mark.parametrize(
    ("line", "said", "logged"),
    [
        ('RUN ["/nope"]', 'process "/nope" did not complete successfully: exit code: 127', "stat /nope: no such file"),
        ('RUN ["nope", "a"]', 'process "nope a" did not complete successfully: exit code: 127', "not found in $PATH"),
        ('RUN ["/etc/passwd"]', 'process "/etc/passwd" did not complete successfully: exit code: 126', "denied"),
        ("RUN nope", 'process "/bin/sh -c nope" did not complete successfully: exit code: 127', "nope: not found"),
        (
            'RUN echo "a\tb\\n" && false',
            r'process "/bin/sh -c echo \"a\tb\\n\" && false" did not complete successfully: exit code: 1',
            "a\tb",
        ),
        ("RUN exit 3", 'process "/bin/sh -c exit 3" did not complete successfully: exit code: 3', ""),
        (
            "RUN sh -c 'kill -9 $$'; exit $?",
            "process \"/bin/sh -c sh -c 'kill -9 $$'; exit $?\" did not complete successfully: exit code: 137",
            "",
        ),
        (
            'SHELL ["/no/sh", "-c"]\nRUN hi',
            'process "/no/sh -c hi" did not complete successfully: exit code: 127',
            "/no/sh",
        ),
        (
            "USER who\nRUN true",
            (
                'process "/bin/sh -c true" did not complete successfully: '
                "unable to find user who: no matching entries in passwd file"
            ),
            "",
        ),
        (
            "USER web:what\nRUN true",
            (
                'process "/bin/sh -c true" did not complete successfully: '
                "unable to find group what: no matching entries in group file"
            ),
            "",
        ),
        ("WORKDIR /etc/passwd", "mkdir /etc/passwd: not a directory", ""),
        ("WORKDIR /etc/passwd/deep", "mkdir /etc/passwd/deep: not a directory", ""),
    ],
)
def test_what_did_not_run_is_said_as_buildkit_says_it(workshop: Workshop, line: str, said: str, logged: str):
    # D49
    with pytest.raises(BuildFailed) as caught:
        workshop.build(f"FROM base\n{line}\n")
    assert caught.value.message == f"failed to solve: {said}"
    assert logged in caught.value.output
    assert next(text for text in caught.value.excerpt.splitlines() if ">>>" in text).endswith(line.splitlines()[-1])
    assert _runs(workshop) == []


def test_an_old_tag_survives_a_failure(workshop: Workshop):
    # F2
    workshop.build("FROM base\nLABEL v=1\n", tags=["x"])
    before = _names(workshop, "x")
    with pytest.raises(BuildFailed):
        workshop.build("FROM base\nRUN false\n", tags=["x"])
    assert _names(workshop, "x") == before


def test_steps_before_a_failure_stay_cached(workshop: Workshop):
    with pytest.raises(BuildFailed):
        workshop.build("FROM base\nRUN echo good > /g\nRUN false\n")
    assert workshop.build("FROM base\nRUN echo good > /g\nRUN true\n").events.cached == ["RUN echo good > /g"]


def test_the_last_output_is_kept_whole(workshop: Workshop):
    # A5: a long log does not lose the error at its end
    with pytest.raises(BuildFailed) as caught:
        workshop.build("FROM base\nRUN seq 1 200000; echo the reason; exit 1\n")
    lines = caught.value.output.splitlines()
    assert lines[-1] == "the reason"
    assert len(caught.value.output) >= 60 << 10


def test_cancelling_kills_the_command_and_keeps_what_was_done(workshop: Workshop):
    # F22
    stop = threading.Event()

    def on(event: BuildEvent) -> None:
        if isinstance(event, VertexLog) and b"begun" in event.data:
            stop.set()

    text = "FROM base\nRUN echo kept > /kept\nRUN echo begun; sleep 1000\n"
    with pytest.raises(Cancelled):
        workshop.build(text, cancelled=stop, events=Events(on=on), tags=["x"])
    assert _runs(workshop) == []
    assert mount_points(str(workshop.folder)) == []
    again = workshop.build("FROM base\nRUN echo kept > /kept\nRUN true\n")
    assert again.events.cached == ["RUN echo kept > /kept"]
    assert workshop.engine.system.fsck().clean


def test_a_build_cancelled_before_it_begins(workshop: Workshop):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        workshop.build("FROM base\nRUN true\n", cancelled=stop)


_BUILD = """
import sys
from pathlib import Path
from lamina.testing.builds import Workshop
folder, text, how = sys.argv[1:]
workshop = Workshop(Path(folder))
def on(event):
    data = getattr(event, "data", b"")
    if b"begun" in data:
        print("begun", flush=True)
context = Path(folder) / ("context-" + how)
context.mkdir(exist_ok=True)
made = workshop.build(text, context=context, on=on, tags=[how])
print(made.id, flush=True)
workshop.engine.close()
"""


def _builder(workshop: Workshop, text: str, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _BUILD, str(workshop.folder), text, how], stdout=subprocess.PIPE, text=True
    )


def test_a_killed_build_leaves_nothing_that_the_next_one_does_not_clear(workshop: Workshop):
    # F22: kill -9 in the middle of a step
    text = "FROM base\nRUN echo one > /one\nRUN echo begun; sleep 1000\n"
    with _builder(workshop, text, "killed") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        child.kill()
    assert _runs(workshop)  # the command outlived its builder
    made = workshop.build("FROM base\nRUN echo one > /one\nRUN echo two > /two\n", tags=["x"])
    assert made.read("/two") == "two\n"
    assert _runs(workshop) == []
    workshop.engine.store.collector.collect()
    assert mount_points(str(workshop.folder)) == []
    report = workshop.engine.system.fsck(repair=True)
    assert workshop.engine.system.fsck().clean, report


def test_two_processes_build_the_same_at_the_same_time(workshop: Workshop):
    # F9
    text = "FROM base\nRUN echo begun; seq 1 500 > /numbers\nRUN sort -r /numbers > /sorted\nLABEL a=b\n"
    children = [_builder(workshop, text, how) for how in ("left", "right")]
    outputs = [child.communicate(timeout=120)[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert all(output[-1].startswith("sha256:") for output in outputs)
    left, right = (workshop.engine.images.get(name).image.id for name in ("left", "right"))
    layers = [workshop.engine.store.images.config(image).diff_ids for image in (left, right)]
    assert layers[0][0] == layers[1][0]
    assert workshop.engine.system.fsck().clean
    assert workshop.build(text).events.ran == []


def test_the_cache_may_go_while_a_build_runs(workshop: Workshop):
    # F9: what a running build stands on is held, or built again; never half there
    pruned: list[int] = []

    def on(event: BuildEvent) -> None:
        if isinstance(event, VertexLog) and b"begun" in event.data:
            workshop.engine.system.cache.prune(all=True)
            workshop.engine.store.collector.collect()
            pruned.append(1)

    text = "FROM base\nRUN echo one > /one\n"
    workshop.build(text)
    made = workshop.build(text + "RUN echo begun; cat /one > /two\n", events=Events(on=on))
    assert pruned == [1]
    assert made.read("/two") == "one\n"
    assert workshop.engine.system.fsck().clean


def test_a_disk_that_refuses_fails_the_build_and_keeps_the_tag(workshop: Workshop, tmp_path: Path):
    # F2: the store on a file system with no room
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], check=True)
    try:
        other = Workshop(small)
        try:
            other.import_base()
            other.build("FROM base\nLABEL v=1\n", tags=["x"])
            before = _names(other, "x")
            with pytest.raises(BuildFailed):
                other.build("FROM base\nRUN dd if=/dev/zero of=/big bs=1M count=64\n", tags=["x"])
            assert _names(other, "x") == before
            made = other.build("FROM base\nRUN echo small > /small\n", tags=["x"])
            assert made.read("/small") == "small\n"
            assert other.engine.system.fsck().clean
        finally:
            other.close()
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_a_base_that_is_not_here_names_the_line(workshop: Workshop):
    with pytest.raises(BuildFailed) as caught:
        workshop.build("FROM base\nFROM localhost:1/no/such:thing\nRUN true\n")
    assert "localhost:1/no/such:thing" in caught.value.message
    assert "Dockerfile:2" in caught.value.excerpt


def test_a_base_is_a_name_and_not_the_beginning_of_an_id(workshop: Workshop):
    # D06
    base = str(workshop.engine.images.get("base").image.id).removeprefix("sha256:")
    with pytest.raises(BuildFailed, match=f"library/{base[:6]}"):
        workshop.build(f"FROM {base[:6]}\nLABEL a=b\n")
    assert workshop.build(f"FROM {base[:12]}\nLABEL a=b\n").config.config.labels == {"a": "b"}


def test_an_empty_dockerfile(workshop: Workshop):
    # D01
    with pytest.raises(BuildFailed, match=r"^failed to solve: the Dockerfile cannot be empty$"):
        workshop.build(files={"Dockerfile": ""})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" ", "file with no instructions"),
        ("FROM base\nENV A", "^failed to solve: ENV must have two arguments"),
        ("FROM base\nLABEL a=1 b", '^failed to solve: Syntax error - can\'t find = in "b". Must be of the form: name=value'),
        ("FROM base\nCMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("FROM base\nEXPOSE", "dockerfile parse error on line 2: EXPOSE requires at least one argument"),
        ("FROM base\nCOPY Dockerfile /f\nCOPY Dockerfile /f/", "cannot copy to non-directory: /f"),
        ("FROM base\nRUM true\n", r"unknown instruction: RUM \(did you mean RUN\?\)"),
        ("FROM base\nCOPY --form=a a b\n", r"unknown flag: --form \(did you mean from\?\)"),
        ("RUN true\n", "no build stage in current context"),
        ("FROM base\nFROM base\nCOPY --from=1 a /\n", "circular dependency detected on stage: stage-1"),
        ("FROM base\nUSER nobody-there\nRUN true\n", "nobody-there"),
        ('FROM base\nRUN ["/no/such"]\n', "/no/such"),
        ("FROM base\nWORKDIR /etc/passwd/x\n", "passwd"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_line(workshop: Workshop, text: str, message: str):
    with pytest.raises(BuildFailed, match=message) as caught:
        workshop.build(text, files={})
    assert "\n" not in caught.value.message
    assert text.strip() == "" or "Dockerfile:" in caught.value.excerpt


@pytest.mark.parametrize("path", ["/proc/self/fd/7", "/proc/self/cwd/x", "/../../etc/x"])
def test_working_directories_cannot_leave_the_tree(workshop: Workshop, path: str):
    # threats 16, 34
    before = set(os.listdir("/etc"))
    try:
        made = workshop.build(f"FROM base\nWORKDIR {path}\nRUN ls -l /proc/self/fd > /fds; pwd > /cwd\n")
    except BuildFailed:
        made = None
    assert set(os.listdir("/etc")) == before
    if made is not None:
        assert str(workshop.folder) not in made.read("/fds")
        assert made.read("/cwd") == os.path.normpath(path) + "\n"


def test_no_descriptor_of_the_builder_reaches_a_command(workshop: Workshop):
    # threat 34
    made = workshop.build("FROM base\nRUN ls /proc/self/fd > /fds\n")
    assert {int(text) for text in made.read("/fds").split()} <= {0, 1, 2, 3}  # 3 is the directory that ls reads


def test_a_step_that_replaces_a_mounted_path_by_a_link_harms_nothing(workshop: Workshop):
    # threat 24: removing the stub of /etc/resolv.conf must not follow what the step left there
    canary = workshop.folder / "canary"
    canary.mkdir()
    (canary / "resolv.conf").write_text("mine")
    (canary / "hosts").write_text("mine")
    files = {"Dockerfile": ""}
    made = workshop.build(f"FROM base\nRUN mv /etc /was; ln -s {canary} /etc; true\n", files)
    assert sorted(os.listdir(canary)) == ["hosts", "resolv.conf"]
    assert made.id is not None


def test_secrets_in_the_environment_of_the_caller_stay_out(workshop: Workshop, monkeypatch: pytest.MonkeyPatch):
    # threat 31: nothing of the caller's environment reaches steps, layers, history or cache
    monkeypatch.setenv("CANARY_SECRET", "s3cr3t-canary")
    made = workshop.build("FROM base\nRUN env > /env\n")
    assert "s3cr3t" not in made.read("/env")
    assert "s3cr3t" not in made.config.raw.decode()
