"""What docker's client and daemon refuse of `run`, `create` and `cp`, in their words and with their statuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lamina.linux import mounts

pytestmark = [pytest.mark.root, pytest.mark.runtime]
DAEMON = "Error response from daemon: "


def test_shared_binds_need_a_host_mount_that_takes_part(lamina, tmp_path: Path):  # C54, threat 22
    private = tmp_path / "private"
    private.mkdir()
    mounts.Tmpfs(str(private)).execute()
    try:
        subprocess.run(["mount", "--make-private", str(private)], check=True)
        words = [("rshared", "shared"), ("shared", "shared"), ("rslave", "shared or slave")]
        for propagation, wanted in words:
            done = lamina("run", "--rm", "--network", "none", "-v", f"{private}:/y:{propagation}", "busybox", "true")
            said = f"path {private} is mounted on {private} but it is not a {wanted} mount"
            assert (done.returncode, said in done.stderr) == (125, True), done.stderr
        subprocess.run(["mount", "--make-shared", str(private)], check=True)
        done = lamina("run", "--rm", "--network", "none", "-v", f"{private}:/y:rslave", "busybox", "true")
        assert (done.returncode, done.stderr) == (0, "")
        assert mounts.mount_of(f"{private}/x")[0] == str(private)
    finally:
        mounts.Unmount(str(private), detach=True).execute()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--network", "none", "--network", "none"), 'network "none" is specified multiple times'),
        (
            ("--network", "own", "--network", "host"),
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
        (
            ("--network", "host", "--network", "none"),
            f"{DAEMON}Container cannot be connected to network endpoints: host, none",
        ),
        (("--pull", "bogus"), 'invalid pull option: \'bogus\': must be one of "always", "missing" or "never"'),
        (("--rm", "--restart", "always"), "conflicting options: cannot specify both --restart and --rm"),
    ],
)
def test_create_and_run_refuse_alike(lamina, words, said):  # C13, C14
    named = "lamina: {}\n\nRun 'lamina {} --help' for more information\n"
    done = lamina("run", *words, "busybox", "true")
    assert (done.returncode, done.stderr) == (125, named.format(said, "run"))
    done = lamina("create", *words, "busybox", "true")
    expected = (1, f"{said}\n") if said.startswith(DAEMON) else (125, named.format(said, "create"))
    assert (done.returncode, done.stderr) == expected
    assert lamina.out("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("busybox", ""), 127, 'exec: "": executable file not found in $PATH'),
        (("--device", "/dev/nope", "busybox", "true"), 127, 'adding custom device "/dev/nope": no such file or dir'),
        (("-u", "1:2:3", "busybox", "sh", "-c", "exit $(id -g)"), 2, ""),
    ],
)
def test_what_starts_and_what_does_not(lamina, words, status, said):
    done = lamina("run", "--rm", "--network", "none", *words)
    assert done.returncode == status
    assert said in done.stderr


def test_the_words_of_cp(lamina, tmp_path: Path):  # C17
    lamina.out("create", "--name", "one", "--network", "none", "busybox")
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("x")
    folder.mkdir()
    missing = tmp_path / "missing"
    for words, said in [
        ((missing, "one:/tmp"), f"lstat {missing}: no such file or directory"),
        ((file, "one:/none/x"), f"{DAEMON}Could not find the file /none in container one"),
        ((file, "one:/none/"), "no such directory"),
        ((file, "one:/etc/passwd/x"), f"{DAEMON}extraction point is not a directory"),
        ((folder, "one:/etc/passwd"), "cannot copy directory"),
        ((f"{file}/", "one:/tmp"), "not a directory"),
        ((file, "one:"), "no such directory"),
        (("-", "one:/none"), 'destination "one:/none" must be a directory'),
        (("one:/nope", tmp_path), f"{DAEMON}Could not find the file /nope in container one"),
        (("one:/etc/passwd", missing / "x"), f'invalid output path: directory "{missing}" does not exist'),
        (("one:/etc/passwd", f"{file}/"), f"stat {file}/: not a directory"),
        (("one:/etc/passwd", file / "x"), f"stat {file}/x: not a directory"),
        (("one:/etc", file), "cannot copy directory"),
        (("one:", tmp_path), f"{DAEMON}bad parameter: path cannot be empty"),
    ]:
        done = lamina("cp", *map(str, words))
        assert (words, done.returncode, done.stderr) == (words, 1, f"{said}\n")
