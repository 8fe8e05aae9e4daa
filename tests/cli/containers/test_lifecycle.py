"""Containers from creation to removal: ps, logs, exec, stop, pause, rename, update, prune."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess

import pytest

from lamina.linux import mounts

pytestmark = [pytest.mark.root, pytest.mark.runtime]
WAIT = "trap 'exit 7' TERM; echo up; echo down >&2; while :; do sleep 0.05; done"


@pytest.fixture
def waiting(lamina):
    """A running container that ends with 7 when it is asked to."""
    container = lamina.out("run", "-d", "--name", "waiting", "--label", "k=v", "busybox", "sh", "-c", WAIT)
    with lamina.engine() as engine:
        containers = engine.containers
        record = containers.supervisor.find(container)
        entries = containers.logs(record, follow=True)
        assert {next(entries).data, next(entries).data} == {b"up\n", b"down\n"}
    return container


# -- lists (C24, S23) -------------------------------------------------------------------------------------------------


def test_ps_shows_states_in_dockers_words(lamina, waiting):
    lamina("run", "--name", "failed", "busybox", "sh", "-c", "exit 3")
    lamina.out("create", "--name", "fresh", "busybox")
    header, *rows = lamina.out("ps", "-a").splitlines()
    assert header.split("   ")[0] == "CONTAINER ID"
    assert re.split(r" {3,}", header.strip())[1:] == ["IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    states = dict(
        line.split("\t") for line in lamina.out("ps", "-a", "--format", "{{.Names}}\t{{.Status}}").splitlines()
    )
    assert list(states) == ["fresh", "failed", "waiting"]  # newest first
    assert states["fresh"] == "Created"
    assert re.fullmatch(r"Exited \(3\) .* ago", states["failed"])
    assert re.fullmatch(r"Up (Less than a second|\d+ seconds?)", states["waiting"])
    assert any(row.startswith(waiting[:12]) and "\"sh -c 'trap 'exit" in row for row in rows)
    assert lamina.out("ps", "-q") == waiting[:12]
    assert lamina.out("ps", "-q", "--no-trunc") == waiting
    assert lamina.out("ps", "-l", "--format", "{{.Names}}") == "fresh"
    assert lamina.out("ps", "-n", "2", "--format", "{{.Names}}").split() == ["fresh", "failed"]


FILTERS: tuple[tuple[list[str], list[str]], ...] = (
    (["status=exited"], ["failed"]),
    (["status=exited", "status=created"], ["fresh", "failed"]),
    (["exited=3"], ["failed"]),
    (["name=ail"], ["failed"]),
    (["label=k"], ["waiting"]),
    (["label=k=v", "label=made=here"], ["waiting"]),
    (["label=k=other"], []),
    (["ancestor=busybox"], ["fresh", "failed", "waiting"]),
    (["before=failed"], ["waiting"]),
    (["since=waiting"], ["fresh", "failed"]),
    (["expose=80/tcp"], ["waiting"]),  # as docker: what does not run exposes nothing
    (["expose=79-81"], ["waiting"]),
    (["expose=80/udp"], []),
    (["network=none"], ["fresh"]),
)


def test_ps_filters(lamina, waiting):  # C24
    lamina("run", "--name", "failed", "busybox", "sh", "-c", "exit 3")
    lamina.out("create", "--name", "fresh", "--network", "none", "busybox")
    found = [
        lamina.out("ps", "-a", *(f"--filter={text}" for text in filters), "--format", "{{.Names}}").split()
        for filters, _ in FILTERS
    ]
    assert found == [names for _, names in FILTERS]


def test_published_ports_are_those_of_the_host(lamina):  # C24: PublicPort and PrivatePort in docker's engine
    lamina.out(
        "run", "-d", "--name", "web", "-p", "127.0.0.1::80", "-p", "127.0.0.1::53/udp", "busybox", "sleep", "100"
    )
    lamina.out("run", "-d", "--name", "other", "--network", "none", "busybox", "sleep", "100")
    tcp, udp = (lamina.out("port", "web", port).rpartition(":")[2] for port in ("80", "53/udp"))

    def found(*filters: str) -> list[str]:
        shown: str = lamina.out("ps", *(f"--filter={text}" for text in filters), "--format", "{{.Names}}")
        return shown.split()

    assert [found(f"publish={tcp}"), found(f"publish={udp}/udp"), found(f"publish={tcp}/udp")] == [["web"], ["web"], []]
    assert [found("publish=80"), found("expose=53/udp"), found("expose=1", f"publish={tcp}")] == [[], ["web"], ["web"]]


def test_ps_size_is_that_of_the_own_layer(lamina):  # S02
    lamina.out("run", "--name", "big", "busybox", "dd", "if=/dev/zero", "of=/file", "bs=1000", "count=1234")
    assert re.fullmatch(r"1\.23MB \(virtual \d\.\d+MB\)", lamina.out("ps", "-as", "--format", "{{.Size}}"))


def test_bad_filters_are_refused(lamina):
    assert lamina("ps", "-f", "x=y").stderr == "Error response from daemon: invalid filter 'x'\n"
    assert lamina("ps", "-f", "status=x").stderr == "Error response from daemon: invalid filter 'status=[x]'\n"


# -- logs (C23, S62) --------------------------------------------------------------------------------------------------


def test_logs_keep_the_streams_apart(lamina, waiting):
    done = lamina("logs", "waiting")
    assert (done.stdout, done.stderr) == ("up\n", "down\n")
    stamped = lamina("logs", "-t", "waiting").stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z up\n", stamped)
    moment = stamped.split()[0]
    assert lamina("logs", "--until", "2001-01-01", "waiting").stdout == ""
    assert lamina("logs", "--since", moment[:10], "waiting").stdout == "up\n"
    assert lamina("logs", "--since", "nonsense", "waiting").returncode == 1


def test_logs_tail_and_follow_to_the_end(lamina):
    lamina.out("run", "-d", "--name", "counter", "busybox", "sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 0.1; done")
    assert lamina.out("logs", "-f", "counter").split() == ["1", "2", "3", "4"]
    assert lamina.out("logs", "-n", "2", "counter").split() == ["3", "4"]


def test_restarted_containers_keep_their_log(lamina):
    lamina.out("run", "--name", "twice", "busybox", "echo", "again")
    assert lamina.out("start", "-a", "twice") == "again"
    assert lamina.out("logs", "twice").split() == ["again", "again"]


# -- exec (C19, S62) --------------------------------------------------------------------------------------------------


def test_exec_runs_beside_the_first_process(lamina, waiting):
    assert lamina.out(
        "exec", "-u", "web", "-w", "/data", "-e", "A=b", "waiting", "sh", "-c", "id -u; pwd; echo $A"
    ) == ("33\n/data\nb")
    assert lamina.out("exec", "-i", "waiting", "cat", stdin=b"typed\n") == "typed"
    assert lamina("exec", "waiting", "sh", "-c", "exit 5").returncode == 5
    missing = lamina("exec", "waiting", "nope")
    assert missing.returncode == 127
    assert missing.stderr.startswith("OCI runtime exec failed: ")
    assert lamina.out("exec", "-d", "waiting", "true") == ""
    lamina.out("stop", "waiting")
    stopped = lamina("exec", "waiting", "true")
    assert (stopped.returncode, stopped.stderr) == (
        1,
        f"Error response from daemon: container {waiting} is not running\n",
    )


# -- changes of state -------------------------------------------------------------------------------------------------


def test_stop_asks_and_wait_tells_the_exit_code(lamina, waiting):  # C31
    assert lamina.out("stop", "waiting") == "waiting"
    assert lamina.out("wait", "waiting") == "7"
    assert lamina.out("start", waiting[:5]) == waiting[:5]
    assert lamina.out("kill", "waiting") == "waiting"
    assert lamina.out("wait", "waiting") == "137"
    assert lamina("kill", "waiting").stderr == (
        f"Error response from daemon: cannot kill container: waiting: container {waiting} is not running\n"
    )


def test_several_are_stopped_and_named_in_the_order_given(lamina):  # C31
    deaf = "trap '' TERM; while :; do sleep 0.05; done"
    names = [lamina.out("run", "-d", "busybox", "sh", "-c", deaf) for _ in range(3)]
    done = lamina("stop", "-t", "1", names[0], "nothere", *names[1:])
    assert (done.returncode, done.stdout.split()) == (1, names)
    assert done.stderr == "Error response from daemon: No such container: nothere\n"
    assert lamina.out("wait", *names).split() == ["137"] * 3


def test_restart_gives_a_new_process(lamina, waiting):  # C27
    before = lamina.out("inspect", "-f", "{{.State.Pid}}", "waiting")
    assert lamina.out("restart", "-t", "5", "waiting") == "waiting"
    assert lamina.out("inspect", "-f", "{{.State.Pid}} {{.State.Running}}", "waiting") != f"{before} true"
    assert lamina.out("ps", "--format", "{{.Names}}") == "waiting"


def test_restart_of_a_throwaway_container_keeps_it(lamina):
    lamina.out("run", "-d", "--rm", "--name", "brief", "busybox", "sh", "-c", "echo >> /count; sleep 60")
    lamina.out("restart", "-t", "0", "brief")
    assert lamina.out("exec", "brief", "sh", "-c", "wc -l < /count") == "2"


def test_pause_rename_top_update(lamina, waiting):  # C25, C32
    assert lamina.out("pause", "waiting") == "waiting"
    assert lamina.out("ps", "--format", "{{.Status}}").endswith("(Paused)")
    assert lamina("exec", "waiting", "true").returncode == 1
    assert lamina.out("unpause", "waiting") == "waiting"
    assert lamina.out("rename", "waiting", "other") == ""
    assert "is already in use" in lamina("create", "--name", "other", "busybox").stderr
    titles, first, *_ = lamina.out("top", "other").splitlines()
    assert titles.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert "sh -c trap" in first
    assert lamina.out("update", "-m", "48m", "--restart", "on-failure:3", "other") == "other"
    shown = json.loads(lamina.out("inspect", "other"))[0]["HostConfig"]
    assert (shown["Memory"], shown["RestartPolicy"]) == (48 << 20, {"Name": "on-failure", "MaximumRetryCount": 3})
    columns = re.split(r" {2,}", lamina.out("stats", "--no-stream", "other").splitlines()[1].strip())
    assert columns[1] == "other"
    assert columns[3].endswith("/ 48MiB")


def test_top_on_a_machine_without_ps(lamina, waiting):  # C25
    hide = 'for one in $(which -a ps); do mount --bind /dev/null "$one"; done; exec "$@"'
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh", *lamina.argv, "top", "waiting"]
    done = subprocess.run(argv, env=lamina.env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error response from daemon: ps: executable file not found\nHint: install procps\n"


def test_rm_refuses_what_runs_unless_forced(lamina, waiting):  # C28
    done = lamina("rm", "waiting", "nothere")
    assert done.returncode == 1
    assert done.stderr == (
        'Error response from daemon: cannot remove container "/waiting": container is running: stop the container'
        " before removing or force remove\nError response from daemon: No such container: nothere\n"
    )
    assert lamina.out("rm", "-f", "waiting", "nothere") == "waiting"


def test_prune_asks_and_spares_what_runs(lamina, waiting):  # C26
    lamina.out("create", "--name", "old", "busybox")
    asked = lamina("container", "prune", stdin=b"n\n")
    assert asked.stdout.startswith("WARNING! This will remove all stopped containers.\n")
    assert len(lamina.out("ps", "-aq").split()) == 2
    done = lamina.out("container", "prune", "-f").splitlines()
    assert done[0] == "Deleted Containers:"
    assert done[-1] == "Total reclaimed space: 0B"
    assert lamina.out("ps", "-aq") == waiting[:12]


# -- inspect (C21, C41) -----------------------------------------------------------------------------------------------


def test_inspect_has_dockers_shape(lamina, waiting):
    shown = json.loads(lamina.out("container", "inspect", "-s", "waiting"))[0]
    assert list(shown)[:7] == ["Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath"]
    assert (shown["Id"], shown["Name"], shown["Path"], shown["Args"][0]) == (waiting, "/waiting", "sh", "-c")
    assert shown["State"]["Status"] == "running"
    assert shown["Config"]["Labels"] == {"k": "v", "made": "here"}
    assert shown["Config"]["Image"] == "busybox"
    assert shown["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].count(".") == 3
    assert shown["NetworkSettings"]["Ports"] == {"80/tcp": None}
    assert shown["SizeRootFs"] > shown["SizeRw"] >= 0
    assert lamina.out("inspect", "-f", "{{.Name}} {{.ID}}", "waiting") == f"/waiting {waiting}"
    members = json.loads(lamina.out("network", "inspect", "bridge"))[0]["Containers"]
    assert members[waiting]["Name"] == "waiting"
    assert [line.split()[1:] for line in lamina.out("network", "ls").splitlines()[1:]] == [
        ["bridge", "bridge", "local"],
        ["host", "host", "local"],
        ["none", "null", "local"],
    ]


def test_revive_starts_what_a_reboot_ended(lamina):  # S20
    for name, policy in (("kept", "unless-stopped"), ("given-up", "no"), ("halted", "unless-stopped")):
        lamina.out("run", "-d", "--name", name, "--restart", policy, "--network", "none", "busybox", "sleep", "1000")
    lamina.out("stop", "-t", "0", "halted")
    kept = lamina.out("inspect", "-f", "{{.Id}}", "kept")
    with lamina.engine() as engine:
        supervisor = engine.containers.supervisor
        for name in ("kept", "given-up"):
            state = supervisor.containers.find(name).state
            for stamp in (state.conmon, state.process):
                fd = os.pidfd_open(int(stamp.split()[0]))
                os.kill(int(stamp.split()[0]), signal.SIGKILL)
                select.select([fd], [], [], 30)
                os.close(fd)
        run_root = supervisor.paths.run_root
        for point in reversed(mounts.mount_points(str(lamina.root))):
            mounts.Unmount(point, detach=True).execute()
        shutil.rmtree(run_root)
    assert lamina.out("ps", "-q") == ""
    assert lamina.out("system", "revive") == kept
    assert lamina.out("ps", "--format", "{{.Names}}") == "kept"
    assert lamina.out("system", "revive") == ""
