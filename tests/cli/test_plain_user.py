"""What a user without root and without subordinate ids can do, and the one line that refuses the rest (S31, A1)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
