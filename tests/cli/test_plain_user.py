"""What a user without root and without subordinate ids can do, and the one line that refuses the rest (S31, A1)."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.testing.builds import fill
from lamina.testing.images import tar_of
from lamina.testing.registry import running_registry

pytestmark = pytest.mark.root  # only root can become somebody else
NOBODY = 65534
#: To read and search is all that is kept of root: Python itself may lie in a place that is root's alone.
BECOME = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
)  # fmt: skip
User = Callable[..., "subprocess.CompletedProcess[str]"]
REFUSAL = (
    "running containers needs root or subordinate ids;"
    " images can be built without RUN, pulled, pushed, saved and loaded by anyone"
)


@pytest.fixture
def user(tmp_path: Path) -> User:
    """Runs the program as a user who is nobody else's; the store is where the XDG data path says."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*BECOME, sys.executable, "-m", "lamina", *arguments], input=stdin, capture_output=True, env=env, cwd=home
        )
        return subprocess.CompletedProcess(arguments, done.returncode, done.stdout.decode(), done.stderr.decode())

    found = run("--version")
    if found.returncode:
        pytest.skip(f"another user cannot import lamina: {found.stderr.strip()[-200:]}")
    return run


def test_images_are_anyone_s(user: User, tmp_path: Path):
    content = tar_of([("data", b"x" * 3000)])
    with running_registry(str(tmp_path / "registry")) as address:
        name = f"{address}/some/app:1"
        for words, stdin in [
            (("import", "-c", 'CMD ["sh"]', "-", "app"), content),
            (("tag", "app", name), b""),
            (("push", name), b""),
            (("save", "-o", "app.tar", "app", name), b""),
            (("rmi", "app", name), b""),
            (("pull", name), b""),
            (("load", "-i", "app.tar"), b""),
            (("history", "app"), b""),
            (("system", "df", "-v"), b""),
            (("system", "prune", "-f"), b""),
            (("fsck",), b""),
            (("ps", "-a"), b""),
            (("network", "ls"), b""),
            (("volume", "ls"), b""),
        ]:
            done = user(*words, stdin=stdin)
            assert (words, done.returncode, done.stderr) == (words, 0, "")
        # Owners are not kept on this disk, and yet the image is the same.
        assert user("image", "inspect", "app", name, "-f", "{{.Size}}").stdout == "3000\n3000\n"
    assert (tmp_path / "home/.local/share/lamina/lamina.db").exists()


def test_containers_are_refused_in_one_line_that_names_what_is_missing(user: User):
    user("import", "-", "app", stdin=tar_of([("data", b"x")]))
    done = user("run", "--rm", "app", "true")
    assert done.returncode == 125
    assert done.stderr.splitlines()[0] == f"lamina: Error response from daemon: {REFUSAL}"
    done = user("create", "app", "true")
    assert (done.returncode, done.stderr) == (1, f"Error response from daemon: {REFUSAL}\nHint: use sudo\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("inspect", "nothere"), "Error: No such object: nothere\n"),
        (("logs", "nothere"), "Error response from daemon: No such container: nothere\n"),
        (("network", "inspect", "nothere"), "Error response from daemon: network nothere not found\n"),
    ],
)
def test_what_is_not_there_is_said_as_to_root(user: User, words: tuple[str, ...], said: str):
    done = user(*words)
    assert (done.returncode, done.stderr) == (1, said)


#: By what each step would ask of a disk: owners of an archive, of `--chown`, of a stage's files, of links, of made paths.
OWNED = """\
FROM base AS stage
COPY --chown=web:staff d /from/
ADD tree.tar /added/
FROM base
COPY . /all
COPY --chown=33:50 d /owned
COPY --chown=web a /alone/
COPY a /home/web/
COPY --from=stage /from /kept
COPY --from=stage /added /links
COPY --from=base /home/web/ /again
USER web
WORKDIR /work/here
ADD --chown=7:8 tree.tar /mine
COPY --link a /linked
COPY a /owned/f
ENV A=b
"""


def test_an_image_without_run_is_the_one_that_root_builds(user: User, tmp_path: Path):
    """Owners are part of a layer's digest, so equal layers are equal owners."""
    context = tmp_path / "home/context"
    fill(context, {"a": "A", "d/f": "F", "d/l": ("->", "f"), "d/run": (0o4755, "R"), "Dockerfile": OWNED})
    os.link(context / "d/f", context / "d/hard")
    with tarfile.open(context / "tree.tar", "w") as archive:
        for name, kind, owner in (("x", b"5", 5), ("x/f", b"0", 6), ("x/l", b"2", 7), ("x/h", b"1", 6), ("z", b"0", 0)):
            info = tarfile.TarInfo(name)
            info.type, info.uid, info.gid, info.mode = kind, owner, owner + 1, 0o755
            info.linkname, info.mtime = "x/f", 1000
            archive.addfile(info)
    base = io.BytesIO()
    with tarfile.open(fileobj=base, mode="w") as archive:
        for name, data, owner in (
            ("etc", None, 0),
            ("etc/passwd", b"web:x:33:34::/:/bin/sh\n", 0),
            ("etc/group", b"staff:x:50:\n", 0),
            ("home", None, 0),
            ("home/web", None, 33),
            ("home/web/own", b"o", 33),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mode = (b"5", 0o755) if data is None else (b"0", 0o644)
            info.size, info.uid, info.gid, info.mtime = len(data or b""), owner, owner, 2000
            archive.addfile(info, io.BytesIO(data or b""))
    seen = []
    for run in (user, _as_root(tmp_path)):
        assert run("import", "-", "base", stdin=base.getvalue()).returncode == 0
        done = run("build", "-t", "app", "--build-arg", "SOURCE_DATE_EPOCH=3000", str(context))
        assert done.returncode == 0, done.stderr
        seen.append(run("image", "inspect", "app", "-f", "{{json .RootFS.Layers}}").stdout.strip("[]\n").split(","))
    assert seen[0] == seen[1]
    # What is packed later is what was promised: `save` makes the blobs anew.
    done = user("save", "-o", "app.tar", "app")
    assert (done.returncode, done.stderr) == (0, "")


def test_run_is_refused_in_one_line(user: User, tmp_path: Path):
    context = fill(tmp_path / "home/context", {"Dockerfile": "FROM app\nENV a=b\nRUN true\n"})
    user("import", "-", "app", stdin=tar_of([("data", b"x")]))
    done = user("build", str(context))
    assert done.returncode == 1
    assert done.stderr.endswith(
        "Dockerfile:3\n--------------------\n   1 |     FROM app\n   2 |     ENV a=b\n   3 | >>> RUN true\n   4 |     \n"
        f"--------------------\nERROR: failed to solve: {REFUSAL}\nHint: use sudo\n"
    )


def _as_root(tmp_path: Path) -> User:
    env = {**os.environ, "LAMINA_ROOT": str(tmp_path / "root-store")}

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "lamina", *arguments], input=stdin, capture_output=True, env=env, cwd=tmp_path
        )
        return subprocess.CompletedProcess(arguments, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run
