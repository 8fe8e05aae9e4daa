"""Each flag that matters has the effect a user sees: `run`, `create`, and the rest of C13 to C32, C42 and C43."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from lamina.testing.commandline import CommandLine
from lamina.testing.registry import running_registry

pytestmark = [pytest.mark.root, pytest.mark.runtime]

PLATFORM = "linux/amd64" if os.uname().machine == "x86_64" else "linux"


class Near(CommandLine):
    """The program in this process, on the shared store: for what starts no foreground process."""

    def out(self, *arguments: str) -> str:
        return self.ok(*arguments).removesuffix("\n")


@pytest.fixture
def near(lamina) -> Near:
    program = Near(lamina.root, {"PATH": os.environ["PATH"]})
    program.root, program.config_dir = lamina.root, lamina.root / "config"
    return program


# Prints what the process was given, a line for each flag.
LOOK = """
echo host $(hostname)
echo added $(grep db.test /etc/hosts)
echo caps $(grep CapBnd /proc/self/status)
echo env $A $B
echo id $(id -un) $(pwd)
echo seed $(cat /mnt/seed) $(cat /vol/seed)
touch /x 2>/dev/null || echo sealed
touch /scratch/x && echo open
test $$ -eq 1 || echo below init
read line; echo read $line
"""
SHOWN = """\
host box
added 10.1.2.3 db.test
caps CapBnd: 0000000000000001
env flag file
id web /tmp
seed bound mounted
sealed
open
below init
read typed
"""


@pytest.mark.parametrize("command", ["run", "create"])
def test_what_the_process_is_given(lamina, tmp_path: Path, command: str):  # C13, C14
    bound, other = tmp_path / "bound", tmp_path / "other"
    for folder, text in ((bound, "bound"), (other, "mounted")):
        folder.mkdir()
        (folder / "seed").write_text(text)
    variables = tmp_path / "vars"
    variables.write_text("A=file\nB=file\n")
    flags = (
        *("--add-host", "db.test:10.1.2.3", "--cap-drop", "ALL", "--cap-add", "CHOWN", "--cpus", "0.5"),
        *("--entrypoint", "sh", "-e", "A=flag", "--env-file", str(variables), "-h", "box", "--init", "-i"),
        *("-l", "k=v", "-m", "64m", "--mount", f"type=bind,src={other},dst=/vol,readonly", "--name", "full"),
        *("--network", "none", "--platform", PLATFORM, "--pull", "never"),
        *("-q", "--read-only", "--restart", "on-failure:3", "--tmpfs", "/scratch", "-u", "web"),
        *("-v", f"{bound}:/mnt:ro", "-w", "/tmp", "busybox", "-c", LOOK),
    )
    if command == "run":
        assert lamina.out("run", *flags, stdin=b"typed\n") + "\n" == SHOWN
    else:
        assert re.fullmatch(r"[0-9a-f]{64}", lamina.out("create", *flags))
        assert lamina.out("start", "-ai", "full", stdin=b"typed\n") + "\n" == SHOWN  # C29
    shown = json.loads(lamina.out("container", "inspect", "full"))[0]
    host = shown["HostConfig"]
    assert shown["Config"]["Labels"] == {"k": "v", "made": "here"}
    assert (host["NanoCpus"], host["Memory"], host["NetworkMode"]) == (500_000_000, 64 << 20, "none")
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}


def test_limits_are_those_of_the_cgroup(near: Near):  # C13 --memory --cpus, C32
    near.out("run", "-d", "--name", "held", "-m", "64m", "--cpus", "0.5", "busybox", "sleep", "100")
    pid = int(near.out("inspect", "-f", "{{.State.Pid}}", "held"))
    assert _limits(pid) == (64 << 20, 0.5)
    near.out("update", "--cpus", "0.25", "held")
    assert _limits(pid) == (64 << 20, 0.25)
    assert near.out("inspect", "-f", "{{.HostConfig.NanoCpus}}", "held") == "250000000"


def _limits(pid: int) -> tuple[int, float]:
    """The memory and CPU limits of a process, from whichever cgroup version has them."""
    paths: dict[str, str] = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    if "memory" in paths:
        memory = Path(f"/sys/fs/cgroup/memory{paths['memory']}/memory.limit_in_bytes").read_text()
        cpu = Path(f"/sys/fs/cgroup/cpu{paths['cpu']}")
        quota, period = ((cpu / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    else:
        group = Path(f"/sys/fs/cgroup{paths['']}")
        memory = (group / "memory.max").read_text()
        quota, period = (group / "cpu.max").read_text().split()
    return int(memory), int(quota) / int(period)


@pytest.mark.parametrize("command", ["run", "create"])
def test_privileged_has_all_that_the_machine_has(lamina, near: Near, command: str):  # C13 --privileged
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    arguments = ("--privileged", "--name", "all", "busybox", "grep", "CapBnd", "/proc/self/status")
    if command == "run":
        assert lamina.out("run", *arguments) == line
    else:
        near.out("create", *arguments)
        assert lamina.out("start", "-a", "all") == line
    assert lamina.out("run", "--rm", "busybox", "grep", "CapBnd", "/proc/self/status") != line


def test_publish_all_takes_what_the_image_exposes(near: Near):  # C13 -P
    near.out("create", "-P", "--name", "web", "busybox", "sleep", "100")
    near.out("start", "web")
    assert re.match(r"80/tcp -> 0\.0\.0\.0:\d+", near.out("port", "web"))
    near.out("run", "-d", "-P", "--name", "other", "busybox", "sleep", "100")
    assert re.match(r"0\.0\.0\.0:\d+", near.out("port", "other", "80"))


@pytest.mark.parametrize("command", ["run", "create"])
def test_pull_quiet_and_platform(near: Near, tmp_path: Path, command: str):  # C13, C14
    words = ("run", "-d") if command == "run" else ("create",)
    with running_registry(str(tmp_path)) as address:
        name = f"{address}/box"
        near.out("tag", "busybox", name)
        near.out("push", "-q", name)
        near.out("rmi", name)
        missing = near(*words, "--pull", "never", name, "true")
        assert missing.status == (125 if command == "run" else 1)
        assert f"No such image: {name}:latest" in missing.err
        loud = near(*words, name, "true")
        assert loud.status == 0
        assert loud.err.startswith(f"Unable to find image '{name}:latest' locally\n")
        near.out("rmi", "-f", name)
        quiet = near(*words, "-q", name, "true")
        assert (quiet.status, quiet.err) == (0, "")
        assert "Status: Image is up to date" in near(*words, "--pull", "always", name, "true").err
    try:
        assert near(*words, "--pull", "missing", name, "true").status == 0  # it is here, nobody is asked
        assert near(*words, "--pull", "always", name, "true").status != 0  # the registry is gone
        foreign = "linux/s390x"
        refused = near(*words, "--pull", "never", "--platform", foreign, name, "true")
        assert refused.status == (125 if command == "run" else 1)
        assert foreign in refused.err
    finally:
        for container in near.out("ps", "-aq").split():
            near.out("rm", "-f", container)
        near.out("rmi", "-f", name)


def test_rm_of_create_goes_after_its_run(lamina, near: Near):  # C14 --rm
    near.out("create", "--rm", "--name", "brief", "busybox", "echo", "done")
    assert lamina.out("start", "-a", "brief") == "done"
    near("rm", "-f", "brief")  # waits for a removal under way
    assert near.out("ps", "-aq") == ""


def test_a_terminal_asked_for_by_create_is_there(lamina):  # C14 -t
    lamina.out("create", "-t", "--name", "tty", "busybox", "tty")
    assert lamina.out("start", "-a", "tty").strip() == "/dev/pts/0"


# -- signals ----------------------------------------------------------------------------------------------------------

TRAPS = "trap 'echo usr; exit 5' USR1; trap 'echo term; exit 6' TERM; echo ready; while :; do sleep 0.05; done"


def test_without_sig_proxy_the_client_alone_is_hit(lamina):  # C13, C15 --sig-proxy
    argv = [*lamina.argv, "run", "--sig-proxy=false", "--name", "deaf", "busybox", "sh", "-c", TRAPS]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=lamina.env) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        client.send_signal(signal.SIGTERM)
        assert client.wait(60) != 6
    assert lamina.out("inspect", "-f", "{{.State.Running}}", "deaf") == "true"


TICKS = "trap 'echo term; exit 6' TERM; while :; do echo tick; sleep 0.05; done"


@pytest.mark.parametrize("proxy", ["true", "false"])
def test_attach_passes_signals_on_as_told(lamina, near: Near, proxy: str):  # C15 --sig-proxy
    near.out("run", "-d", "--name", "ticks", "busybox", "sh", "-c", TICKS)
    argv = [*lamina.argv, "attach", f"--sig-proxy={proxy}", "ticks"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=lamina.env) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"tick\n"
        client.send_signal(signal.SIGTERM)
        client.stdout.read()
        assert (client.wait(60) == 6) is (proxy == "true")
    assert near.out("inspect", "-f", "{{.State.Running}}", "ticks") == ("false" if proxy == "true" else "true")


def test_kill_sends_the_signal_named(lamina, near: Near):  # C22 -s
    near.out("run", "-d", "--name", "ears", "busybox", "sh", "-c", TRAPS)
    with lamina.engine() as engine:
        record = engine.containers.supervisor.find("ears")
        assert next(iter(engine.containers.logs(record, follow=True))).data == b"ready\n"
    assert near.out("kill", "-s", "USR1", "ears") == "ears"
    assert near.out("wait", "ears") == "5"
    assert near.out("logs", "ears") == "ready\nusr"


# -- lists, prunes and volumes ----------------------------------------------------------------------------------------


def test_prune_takes_what_the_filter_chooses(near: Near):  # C26 --filter
    kept, gone = (near.out("create", "-l", f"stage={stage}", "busybox") for stage in ("prod", "test"))
    assert gone in near.out("container", "prune", "-f", "--filter", "label=stage=test")
    assert near.out("ps", "-aq", "--no-trunc") == kept
    assert kept not in near.out("container", "prune", "-f", "--filter", "label!=stage=prod")
    assert kept not in near.out("container", "prune", "-f", "--filter", "until=1h")
    assert kept in near.out("container", "prune", "-f")


def test_stats_lists_what_does_not_run_when_asked(near: Near):  # C30 -a
    near.out("create", "--name", "still", "busybox")
    row = "{{.Name}} {{.PIDs}}"
    assert near.out("stats", "--no-stream", "--format", row) == ""
    assert near.out("stats", "-a", "--no-stream", "--format", row) == "still 0"


def test_volumes(near: Near, tmp_path: Path):  # C42
    options = ("-o", "type=none", "-o", f"device={tmp_path}", "-o", "o=bind")
    assert near.out("volume", "create", "-d", "local", "--label", "k=v", *options, "bound") == "bound"
    near.out("volume", "create", "plain")
    near.out("create", "-v", "plain:/data", "-v", "/anonymous", "--name", "user", "busybox")
    shown = json.loads(near.out("volume", "inspect", "bound"))[0]
    assert (shown["Driver"], shown["Labels"]) == ("local", {"k": "v"})
    assert shown["Options"] == {"type": "none", "device": str(tmp_path), "o": "bind"}

    def listed(*filters: str) -> list[str]:
        return near.out("volume", "ls", "-q", *(f"--filter={text}" for text in filters)).split()

    assert listed("label=k") == listed("label=k=v") == listed("name=oun") == listed("dangling=true") == ["bound"]
    assert listed("label=k=x") == listed("driver=other") == []
    assert len(listed("driver=local")) == 3
    near.out("rm", "user")
    assert "bound" not in near.out("volume", "prune", "-f")  # anonymous ones alone
    assert sorted(listed()) == ["bound", "plain"]
    assert near("volume", "rm", "gone").status == 1
    assert near("volume", "rm", "-f", "gone").status == 0
    pruned = near.out("volume", "prune", "-a", "-f")
    assert pruned.splitlines()[0] == "Deleted Volumes:"
    assert sorted(pruned.splitlines()[1:3]) == ["bound", "plain"]
    assert listed() == []


def test_rm_takes_anonymous_volumes_when_asked(near: Near):  # C28 -v
    for flags, left in (((), 1), (("-v",), 0)):
        near.out("create", "--name", "user", "-v", "/anonymous", "busybox")
        near.out("rm", *flags, "user")
        assert len(near.out("volume", "ls", "-q").split()) == left
        near.out("volume", "prune", "-f")


def test_networks_are_listed_by_filter(near: Near):  # C43
    def listed(*filters: str) -> list[str]:
        return near.out("network", "ls", "--format", "{{.Name}}", *(f"--filter={text}" for text in filters)).split()

    assert listed() == ["bridge", "host", "none"]
    assert listed("driver=host") == listed("name=hos") == ["host"]
    ids = near.out("network", "ls", "-q").split()
    assert [len(each) for each in ids] == [12, 12, 12]
    assert near.out("network", "inspect", "-f", "{{.Name}}", ids[0]) == "bridge"
