"""What goes wrong says so: one clear line on stderr, docker's exit status, and a store as it was before."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lamina.testing.dockerd import SYSTEM_PATH


class Case(NamedTuple):
    """Arguments (`{}` fields are filled in), exit status, what the line says; `hints` more lines are allowed."""

    id: str
    arguments: tuple[str, ...]
    status: int
    says: str
    stdin: bytes = b""
    hints: int = 0
    runs: bool = False


EXCERPT = 9  # docker quotes the step and the lines around it before its one line
CASES = [
    Case(
        "wrong password",
        ("login", "-u", "me", "-p", "wrong", "{guarded}"),
        1,
        "login attempt to .* failed with status: 401 Unauthorized",
        hints=1,
    ),
    Case("pull without password", ("pull", "{guarded}/a:1"), 1, "no basic auth credentials", hints=1),
    Case("dead registry", ("pull", "{dead}/a:1"), 1, "connection refused"),
    Case("push to a dead registry", ("push", "{dead}/a:1"), 1, "connection refused", hints=1),
    Case("unknown image", ("image", "inspect", "nobody/knows:1"), 1, "No such image: nobody/knows:1"),
    Case("unknown image removed", ("rmi", "nobody/knows:1"), 1, "No such image: nobody/knows:1"),
    Case("unknown image tagged", ("tag", "nobody/knows:1", "a:1"), 1, "No such image: nobody/knows:1"),
    Case("unknown image saved", ("save", "-o", "{out}", "nobody/knows:1"), 1, "nobody/knows:1"),
    Case("unknown tag in a registry", ("pull", "{registry}/nobody:1"), 1, "manifest unknown|not found"),
    Case("bad reference", ("pull", "good/CASE:1"), 1, "invalid reference format"),
    Case("archive of nothing", ("load", "-q"), 1, "archive|tar|EOF"),
    Case("corrupt archive", ("load", "-q"), 1, "archive|tar|EOF", stdin=b"\x1f\x8b corrupt" * 200),
    Case("truncated archive", ("load", "-q", "-i", "{truncated}"), 1, "archive|tar|EOF|ends|truncated"),
    Case("archive that is not there", ("load", "-i", "{dead}.tar"), 1, "no such file"),
    Case("bad Dockerfile", ("build", "-q", "-f", "{bad}", "{context}"), 1, "unknown instruction", hints=EXCERPT),
    Case("missing file in COPY", ("build", "-q", "-f", "{copy}", "{context}"), 1, "/absent", hints=EXCERPT),
    Case("no Dockerfile", ("build", "-q", "{empty}"), 1, "Dockerfile"),
    Case("port in use", ("serve", "registry", "--addr", "{taken}"), 1, "address already in use"),
    Case(
        "run of an unknown command",
        ("run", "--rm", "peers/base:1", "nothing-like-it"),
        127,
        "nothing-like-it",
        hints=1,
        runs=True,
    ),
    Case("run of a folder", ("run", "--rm", "peers/base:1", "/etc"), 126, "/etc", hints=1, runs=True),
    Case(
        "published port in use",
        ("run", "--rm", "-p", "{taken}:80", "peers/base:1"),
        125,
        "in use|allocated",
        hints=1,
        runs=True,
    ),
    Case("no such container", ("start", "nobody"), 1, "No such container: nobody", hints=1),
    Case("bad flag", ("run", "--nonsense", "peers/base:1"), 125, "unknown flag: --nonsense", hints=9),
]


@pytest.fixture
def places(guarded: str, registry: str, tmp_path: Path, lamina: Any) -> Iterator[dict[str, str]]:
    """What the cases name."""
    context = tmp_path / "context"
    context.mkdir()
    (tmp_path / "empty").mkdir()
    (context / "bad").write_text("FROM peers/base:1\nNONSENSE here\n")
    (context / "copy").write_text("FROM peers/base:1\nCOPY absent /there\n")
    archive = tmp_path / "truncated.tar"
    archive.write_bytes(subprocess.run(lamina.command("save", "peers/base:1"), capture_output=True).stdout[:100_000])
    with socket.socket() as taken, socket.socket() as dead:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        dead.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can take it, and it refuses
        lamina.ok("tag", "peers/base:1", f"127.0.0.1:{dead.getsockname()[1]}/a:1")
        yield {
            "guarded": guarded,
            "registry": registry,
            "taken": f"127.0.0.1:{taken.getsockname()[1]}",
            "dead": f"127.0.0.1:{dead.getsockname()[1]}",
            "context": str(context),
            "bad": str(context / "bad"),
            "copy": str(context / "copy"),
            "empty": str(tmp_path / "empty"),
            "truncated": str(archive),
            "out": str(tmp_path / "out.tar"),
        }


def mounts_below(folder: Path) -> list[str]:
    with open("/proc/self/mountinfo") as table:
        return [line.split()[4] for line in table if line.split()[4].startswith(f"{folder}/")]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id, marks=[pytest.mark.runtime] if case.runs else []) for case in CASES]
)
def test_a_refusal_is_one_line_and_changes_nothing(
    case: Case, lamina: Any, places: dict[str, str], request: pytest.FixtureRequest
) -> None:
    if case.runs:
        request.getfixturevalue("containers")
    before = lamina.ok("images", "-a", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
    done = lamina(*(argument.format(**places) for argument in case.arguments), stdin=case.stdin)
    said = done.stderr.decode()
    assert done.returncode == case.status, said
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("WARNING! Using")]
    assert re.search(case.says, said, re.IGNORECASE)
    assert 1 <= len(lines) <= 1 + case.hints, said
    assert "Traceback" not in said
    assert "internal error" not in said
    assert lamina.ok("images", "-a", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}") == before
    assert lamina.ok("ps", "-a", "-q") == ""
    assert not os.path.exists(places["out"])
    lamina.ok("fsck")
    assert mounts_below(lamina.home) == []


NOBODY = 65534


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[bytes]]]:
    """lamina as a user without subordinate ids, over a store of the XDG data folder."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming nobody needs root and setpriv")
    home = tempfile.mkdtemp(prefix="lamina-nobody-", dir="/tmp")
    os.chown(home, NOBODY, NOBODY)
    drop = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    env = {"PATH": SYSTEM_PATH, "HOME": home, "XDG_DATA_HOME": f"{home}/data"}
    program = "import sys; sys.argv[0] = 'lamina'; from lamina.cli.main import entry; entry()"

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*drop, sys.executable, "-c", program, *arguments],
            input=stdin, capture_output=True, env=env, cwd=home, timeout=60,
        )  # fmt: skip

    probe = run("version", "--format", "{{.Client.Version}}")
    if probe.returncode and b"ModuleNotFound" in probe.stderr:
        shutil.rmtree(home, ignore_errors=True)
        pytest.skip("nobody cannot read the installed lamina")
    yield run
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.root
def test_without_root_and_subordinate_ids_images_still_move(nobody, base_tar, registry, repository):  # S31
    def ok(*arguments: str, stdin: bytes = b"") -> bytes:
        done: subprocess.CompletedProcess[bytes] = nobody(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{arguments}: {done.stderr.decode()}"
        return done.stdout

    name = f"{registry}/{repository}:1"
    made = ok("import", "-c", 'CMD ["sh"]', "-", name, stdin=base_tar).strip()
    ok("push", name)
    archive = ok("save", name)
    ok("rmi", name)
    ok("load", "-q", stdin=archive)
    assert ok("image", "inspect", "-f", "{{.Id}}", name).strip() == made
    ok("rmi", name)
    ok("pull", "-q", name)
    assert ok("image", "inspect", "-f", "{{.Id}}", name).strip() == made
    ok("fsck")


@pytest.mark.root
@pytest.mark.parametrize(("command", "statuses"), [("build", {1}), ("run", {125})])
def test_without_root_and_subordinate_ids_containers_are_refused(nobody, base_tar, command, statuses):
    assert nobody("import", "-", "base:1", stdin=base_tar).returncode == 0
    if command == "build":
        done = nobody("build", "-q", "-", stdin=b"FROM base:1\nRUN true\n")
    else:
        done = nobody("run", "--rm", "base:1", "true")
    said = done.stderr.decode()
    assert done.returncode in statuses, said
    assert "needs root or subordinate ids" in said
    assert ".lock" not in said
    assert "Traceback" not in said
    assert "internal error" not in said
    assert nobody("ps", "-a", "-q").stdout == b""
    assert nobody("fsck").returncode == 0
