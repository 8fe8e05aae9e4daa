"""Builds by a user without root: what the disk does not let its owner read is in the layers as it is in root's."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamina.testing.builds import FileSpec, fill

pytestmark = pytest.mark.root  # only root can become somebody else
NOBODY = 65534
User = Callable[..., "subprocess.CompletedProcess[str]"]


def _runner(command: tuple[str, ...], cwd: Path, **env: str) -> User:
    env |= {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*command, sys.executable, "-m", "lamina", *arguments], input=stdin, capture_output=True, env=env, cwd=cwd
        )
        return subprocess.CompletedProcess(arguments, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the user's own; the directories of tests are closed to everybody else."""
    with tempfile.TemporaryDirectory(prefix="lamina-home-") as home:
        os.chown(home, NOBODY, NOBODY)
        yield Path(home)


@pytest.fixture
def user(home: Path) -> User:
    """The program without any capability: permission bits mean what they say."""
    run = _runner(
        ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"), home, HOME=str(home)
    )
    found = run("--version")
    if found.returncode:
        pytest.skip(f"another user cannot import lamina: {found.stderr.strip()[-200:]}")
    return run


@pytest.fixture
def root(tmp_path: Path) -> User:
    """The program as root, on a store of its own."""
    return _runner((), tmp_path, LAMINA_ROOT=str(tmp_path / "root-store"), HOME=str(tmp_path))


#: Modes that keep their owner out, one way or the other.
SHUT = [
    ("open", None, 0o755),
    ("none", None, 0o000),
    ("none/f", b"1", 0o000),
    ("none/deep", None, 0o111),
    ("none/deep/g", b"2", 0o044),
    ("search", None, 0o311),
    ("search/h", b"3", 0o200),
    ("list", None, 0o644),
    ("list/i", b"4", 0o4111),
    ("fixed", None, 0o555),
    ("fixed/j", b"5", 0o444),
]


def _tar(entries: list[tuple[str, bytes | None, int]], *, owner: int = 0) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data, mode in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = (b"5", mode) if data is None else (b"0", mode)
            info.size, info.uid, info.gid, info.mtime = len(data or b""), owner, owner, 2000
            archive.addfile(info, io.BytesIO(data or b""))
        info = tarfile.TarInfo("none/hard")
        info.type, info.linkname, info.uid, info.gid, info.mtime = b"1", "none/f", owner, owner, 2000
        archive.addfile(info)
    return out.getvalue()


SHUT_OUT = """\
FROM base AS stage
COPY --chmod=0000 a /kept/a
COPY --chmod=0111 d /kept/d
COPY a /none/
FROM base
COPY --from=stage /none /list /kept/ /copied/
COPY --from=stage --chmod=u+rwX /none /opened
COPY a /fixed/j
COPY a /none/deep/g
COPY d /none
ADD t.tar /added
ADD --chown=7:8 t.tar /owned
COPY --chmod=0 a b /
COPY a /b
WORKDIR /list/w
"""


def test_modes_that_shut_their_owner_out_make_the_layers_of_root(user: User, root: User, home: Path) -> None:
    context = fill(home / "c", {"a": "A", "b": "B", "d/f": "F", "d/l": ("->", "f"), "Dockerfile": SHUT_OUT})
    os.link(context / "d/f", context / "d/hard")
    (context / "t.tar").write_bytes(_tar(SHUT, owner=5))
    seen = []
    for run in (user, root):
        assert run("import", "-", "base", stdin=_tar(SHUT)).returncode == 0
        done = run("build", "-t", "app", "--build-arg", "SOURCE_DATE_EPOCH=3000", str(context))
        assert done.returncode == 0, done.stderr
        seen.append(run("image", "inspect", "app", "-f", "{{json .RootFS.Layers}} {{.Size}}").stdout)
    assert seen[0] == seen[1]
    # What is packed later is what was promised: `save` makes the blobs anew.
    for words in (("save", "-o", "app.tar", "app"), ("fsck",), ("rmi", "app", "base"), ("load", "-i", "app.tar")):
        done = user(*words)
        assert (done.returncode, done.stderr) == (0, "")
    layers = user("image", "inspect", "app", "-f", "{{json .RootFS.Layers}} {{.Size}}").stdout
    assert layers == seen[0]


def test_an_archive_as_context_is_read_whatever_its_modes(user: User, root: User) -> None:
    entries = [("Dockerfile", b"FROM scratch\nCOPY . /\nADD none/f /f\n", 0o000), *SHUT]
    seen = []
    for run in (user, root):
        done = run("build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=3000", "-t", "app", "-", stdin=_tar(entries))
        assert done.returncode == 0, done.stderr
        seen.append(run("image", "inspect", "app", "-f", "{{json .RootFS.Layers}}").stdout)
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("line", "shut", "named"),
    [
        ("COPY d/f /", "d/f", "d/f"),
        ("COPY . /", "d/f", "d/f"),
        ("COPY d /d/", "d", "d"),
        ("COPY . /", "d", "d"),
        ("COPY d/f /", "d", "d/f"),
        ("COPY d/* /", "d", "d"),
        ("ADD d/f /", "d/f", "d/f"),
    ],
)
def test_a_source_that_may_not_be_read_is_named(user: User, home: Path, line: str, shut: str, named: str) -> None:
    context = fill(home / "c", {"a": "A", "d/f": "F", "Dockerfile": f"FROM scratch\nCOPY a /\n{line}\n"})
    (context / shut).chmod(0)
    done = user("build", str(context))
    assert done.returncode == 1
    said = [text for text in done.stderr.splitlines() if text.startswith("ERROR:")]
    assert said == [f"ERROR: failed to solve: error from sender: open {named}: permission denied"]
    assert "Traceback" not in done.stderr


def test_what_the_rules_leave_out_need_not_be_readable(user: User, home: Path) -> None:
    files: dict[str, FileSpec] = {"d/f": "F", ".dockerignore": "d\n", "Dockerfile": "FROM scratch\nCOPY . /\n"}
    context = fill(home / "c", files)
    (context / "d").chmod(0)
    done = user("build", str(context))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore"])
def test_a_definition_that_may_not_be_read_is_named(user: User, home: Path, name: str) -> None:
    context = fill(home / "c", {"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": "x\n"})
    (context / name).chmod(0)
    done = user("build", str(context))
    assert done.returncode == 1
    what = "failed to solve: failed to read dockerfile: " if name == "Dockerfile" else "error reading .dockerignore: "
    assert [text for text in done.stderr.splitlines() if "ERROR" in text] == [
        f"ERROR: {what}open {name}: permission denied"
    ]
