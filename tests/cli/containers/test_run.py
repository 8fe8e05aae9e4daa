"""`lamina run` as people use it: output, exit codes, names, variables, mounts, ports."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.runtime]
ID = re.compile(r"[0-9a-f]{64}")


# -- foreground (C13) -------------------------------------------------------------------------------------------------


def test_streams_stay_apart_and_the_exit_code_is_the_containers(lamina):
    done = lamina("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.returncode, done.stdout, done.stderr) == (42, "out\n", "err\n")


def test_input_reaches_the_container_only_with_interactive(lamina):  # S21
    assert lamina("run", "--rm", "-i", "busybox", "cat", stdin=b"hello\n").stdout == "hello\n"
    assert lamina("run", "--rm", "busybox", "cat", stdin=b"hello\n").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("busybox", "nope"), 127, 'exec: "nope"'),
        (("busybox", "/etc"), 126, "/etc"),
        (("--entrypoint", "nope", "busybox"), 127, "nope"),
        (("--pull", "never", "nothere"), 125, "No such image: nothere:latest"),
        (("-w", "relative", "busybox"), 125, "it needs to be an absolute path"),
        (("--network", "nowhere", "busybox"), 125, "network nowhere not found"),
    ],
)
def test_what_cannot_start_ends_with_dockers_codes(lamina, arguments, status, said):  # C13: 125, 126, 127
    done = lamina("run", "--rm", *arguments)
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith("lamina: Error response from daemon: ")
    assert said in done.stderr
    assert done.stderr.endswith("\n\nRun 'lamina run --help' for more information\n")
    assert lamina.out("ps", "-aq") == ""


def test_flags_after_the_image_belong_to_the_command(lamina):  # S21
    assert lamina.out("run", "--rm", "busybox", "echo", "--rm", "-it", "--help") == "--rm -it --help"


def test_rm_leaves_nothing_not_even_anonymous_volumes(lamina):  # S20
    assert lamina.out("run", "--rm", "-v", "/scratch", "busybox", "sh", "-c", "echo x > /scratch/x") == ""
    assert lamina.out("ps", "-aq") == ""
    assert lamina.out("volume", "ls", "-q") == ""


def test_detached_rm_goes_by_itself(lamina):  # S20: no client is there any more
    container = lamina.out(
        "run", "-d", "--rm", "-v", "/scratch", "busybox", "sh", "-c", "read x < /dev/null; sleep 0.2"
    )
    assert ID.fullmatch(container)
    lamina("wait", container)
    # The exit command of conmon may still be at it: a removal waits for it, and finds nothing to do.
    lamina("rm", "-f", container)
    assert lamina.out("ps", "-aq") == ""
    with lamina.engine() as engine:
        assert [snapshot.key for snapshot in engine.store.snapshots.all() if snapshot.kind == "active"] == []


def test_signals_are_passed_on(lamina):  # C13 --sig-proxy
    script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    argv = [*lamina.argv, "run", "--rm", "busybox", "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=lamina.env) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        client.send_signal(signal.SIGTERM)
        assert client.stdout.read() == b"got\n"
        assert client.wait() == 9


# -- identity ---------------------------------------------------------------------------------------------------------


def test_names_ids_and_cidfile(lamina, tmp_path):
    cidfile = tmp_path / "cid"
    container = lamina.out("create", "--cidfile", str(cidfile), "busybox", "hostname")
    assert ID.fullmatch(container)
    assert cidfile.read_text() == container
    name = lamina.out("ps", "-a", "--format", "{{.Names}}")
    assert re.fullmatch(r"[a-z]+_[a-z]+", name)
    assert lamina.out("start", "-a", name) == container[:12]  # S21: hostname is the short id
    again = lamina("run", "--cidfile", str(cidfile), "busybox")
    assert again.returncode == 125
    assert "container ID file found" in again.stderr


def test_a_name_is_taken_once(lamina):
    first = lamina.out("create", "--name", "web", "busybox")
    second = lamina("run", "--name", "web", "busybox")
    assert second.returncode == 125
    assert f'Conflict. The container name "/web" is already in use by container "{first}".' in second.stderr
    assert "Invalid container name (-x)" in lamina("create", "--name=-x", "busybox").stderr


# -- configuration (S31) ----------------------------------------------------------------------------------------------


def test_environment_from_image_files_flags_and_the_user(lamina, tmp_path):
    file = tmp_path / "vars"
    file.write_text("# comment\nA=file\nB=file\nHOME_OF_USER\nTERM\n")
    out = lamina.out("run", "--rm", "--env-file", str(file), "-e", "A=flag", "-e", "HOME", "busybox", "env")
    env = dict(line.split("=", 1) for line in out.splitlines())
    assert (env["FROM_IMAGE"], env["A"], env["B"]) == ("yes", "flag", "file")
    assert env["HOME"] == str(lamina.root)
    assert env["TERM"] == "xterm"
    assert "HOME_OF_USER" not in env


def test_config_json_gives_proxies(lamina):  # C52
    config = lamina.root / "config"
    config.mkdir(exist_ok=True)
    (config / "config.json").write_text(json.dumps({"proxies": {"default": {"httpProxy": "http://proxy.test:3128"}}}))
    try:
        out = lamina.out("run", "--rm", "busybox", "sh", "-c", "echo $HTTP_PROXY $http_proxy")
    finally:
        (config / "config.json").unlink()
    assert out == "http://proxy.test:3128 http://proxy.test:3128"


def test_user_workdir_entrypoint_readonly_tmpfs(lamina):
    out = lamina.out(
        "run", "--rm", "-u", "web", "-w", "/new/dir", "--read-only", "--tmpfs", "/scratch:size=1m,mode=1777",
        "--entrypoint", "sh", "busybox", "-c", "id -u; pwd; touch /x 2>/dev/null || echo no; touch /scratch/x && echo yes",
    )  # fmt: skip
    assert out.splitlines() == ["33", "/new/dir", "no", "yes"]


def test_unknown_and_conflicting_flags_are_refused_as_docker_does(lamina):
    done = lamina("run", "--blkio-weight", "10", "busybox")
    assert (done.returncode, done.stderr.splitlines()[0]) == (125, "unknown flag: --blkio-weight")
    done = lamina("run", "--rm", "--restart", "always", "busybox")
    assert done.returncode == 125
    assert "conflicting options: cannot specify both --restart and --rm" in done.stderr
    done = lamina("run", "-d", "-a", "stdout", "busybox")
    assert (done.returncode, done.stderr) == (1, "conflicting options: cannot specify both --attach and --detach\n")
    done = lamina("run", "-it", "busybox")
    assert (done.returncode, done.stderr) == (1, "the input device is not a TTY\n")


# -- volumes (S58, C42, C54) ------------------------------------------------------------------------------------------


def test_a_new_named_volume_is_seeded_and_outlives_its_container(lamina):
    assert lamina.out("run", "--rm", "-v", "stuff:/data", "busybox", "cat", "/data/seed") == "from the image"
    lamina.out("run", "--rm", "-v", "stuff:/data", "busybox", "sh", "-c", "echo mine > /data/seed")
    assert lamina.out("run", "--rm", "-v", "stuff:/data:ro", "busybox", "cat", "/data/seed") == "mine"
    assert lamina.out("volume", "ls") == "DRIVER    VOLUME NAME\nlocal     stuff"
    where = lamina.out("volume", "inspect", "-f", "{{.Mountpoint}}", "stuff")
    assert Path(where, "seed").read_text() == "mine\n"
    assert Path(where, "seed").stat().st_uid == 33


def test_binds_and_the_mount_grammar(lamina, tmp_path):
    (tmp_path / "file").write_text("host\n")
    both = lamina.out(
        "run", "--rm", "-v", f"{tmp_path}:/a", "--mount", f"type=bind,src={tmp_path},dst=/b,ro", "busybox",
        "sh", "-c", "cat /a/file; touch /a/new; touch /b/new2 2>/dev/null || echo ro",
    )  # fmt: skip
    assert both == "host\nro"
    assert sorted(os.listdir(tmp_path)) == ["file", "new"]
    refused = lamina("run", "--mount", "type=bind,src=/no/such/place,dst=/b", "busybox")
    assert refused.returncode == 125
    assert "bind source path does not exist: /no/such/place" in refused.stderr


def test_a_volume_in_use_stays(lamina):
    container = lamina.out("create", "-v", "busy:/x", "busybox")
    done = lamina("volume", "rm", "busy")
    assert (done.returncode, done.stderr) == (
        1,
        f"Error response from daemon: remove busy: volume is in use - [{container}]\n",
    )
    lamina.out("rm", container)
    assert lamina.out("volume", "rm", "busy") == "busy"
    assert lamina("volume", "rm", "busy").stderr == "Error response from daemon: get busy: no such volume\n"


# -- runtimes ---------------------------------------------------------------------------------------------------------


def test_a_runtime_that_is_not_there_is_refused_before_anything_is_made(lamina):  # C13 --runtime
    for command, status in (("run", 125), ("create", 1)):
        done = lamina(command, "--runtime", "runq", "busybox", "true")
        assert done.returncode == status
        assert "Error response from daemon: unknown or invalid runtime name: runq\n" in done.stderr
    assert lamina.out("ps", "-aq") == ""


def test_info_names_the_runtime_that_run_takes(lamina):  # C37
    lamina.out("run", "-d", "--name", "up", "busybox", "sleep", "100")
    with lamina.engine() as engine:
        used = [kind.name for kind in Path(engine.settings.run_root).iterdir() if kind.name in {"crun", "runc"}]
    assert lamina.out("info", "-f", "{{.DefaultRuntime}}") in used
    driver = lamina.out("info", "-f", "{{.Driver}}")
    assert lamina.out("inspect", "-f", "{{.Driver}} {{.GraphDriver.Name}}", "up") == f"{driver} {driver}"


# -- ports (S20) ------------------------------------------------------------------------------------------------------


def test_a_published_port_answers(lamina):
    serve = "echo up; while :; do echo hi from inside | nc -l -p 80; done"
    container = lamina.out("run", "-d", "-p", "127.0.0.1::80", "busybox", "sh", "-c", serve)
    where = lamina.out("port", container, "80")
    assert lamina.out("port", container) == f"80/tcp -> {where}"
    assert lamina.out("ps", "--format", "{{.Ports}}") == f"{where}->80/tcp"
    host, _, number = where.partition(":")
    for _attempt in range(100):
        # The server listens anew for each client; a refusal in between says nothing.
        try:
            with socket.create_connection((host, int(number)), timeout=10) as client:
                got = client.recv(100)
        except ConnectionError:
            continue
        if got:
            break
    assert got == b"hi from inside\n"
    taken = lamina("run", "--rm", "-p", f"{where}:80", "busybox")
    assert taken.returncode == 125
    assert "port is already allocated" in taken.stderr
