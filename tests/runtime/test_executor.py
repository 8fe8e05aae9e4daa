"""One command in a root file system, through the real runtime."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.linux import mounts
from lamina.runtime import oci, users
from lamina.runtime import rootfs as rootfs_module
from lamina.runtime.bundle import OciMount, Rlimit
from lamina.runtime.executor import ExecRequest, ExecutionCancelled, Executor

pytestmark = [pytest.mark.root, pytest.mark.runtime]


class Output:
    """Collects what a command prints, by stream."""

    def __init__(self) -> None:
        self.streams = {"stdout": bytearray(), "stderr": bytearray()}

    def __call__(self, stream, piece):
        self.streams[stream] += piece

    @property
    def out(self):
        return self.streams["stdout"].decode()

    @property
    def err(self):
        return self.streams["stderr"].decode()


@pytest.fixture(params=["crun", "runc"])
def execute(request: pytest.FixtureRequest, rootfs: Path, run_root: Path):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    executor = Executor(run_root, runtime=request.param)

    def go(*argv: str, stdin=None, cancel=None, sink=None, **options):
        output = sink or Output()
        request = ExecRequest(str(rootfs), argv, **({"network": "none"} | options))
        return executor.run(request, output, stdin=stdin, cancel=cancel), output

    yield go
    assert os.listdir(run_root / "exec") == []
    assert not [point for point in mounts.mount_points(str(rootfs)) if point != str(rootfs)]


def test_exit_code_and_separate_streams(execute):
    code, output = execute("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (code, output.out, output.err) == (3, "out\n", "err\n")


def test_a_program_for_another_machine(execute, rootfs: Path):
    (rootfs / "bin/foreign").write_bytes(b"\x7fELF of another kind")
    (rootfs / "bin/foreign").chmod(0o755)
    code, output = execute("/bin/foreign")
    assert (code, output.err.strip().lower()) == (1, "exec /bin/foreign: exec format error")


def test_death_by_signal_is_128_and_more(execute):
    code, _ = execute("sh", "-c", "sh -c 'kill -9 $$'; exit $?")
    assert code == 137


@pytest.mark.parametrize(
    ("command", "code", "kind", "words"),
    [
        ("nope", 127, oci.CommandNotFound, 'exec: "nope": executable file not found in $PATH'),
        ("/nope", 127, oci.CommandNotFound, "/nope"),
        ("/etc", 126, oci.CommandNotExecutable, 'exec: "/etc": permission denied'),
        ("/etc/passwd", 126, oci.CommandNotExecutable, 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_commands_that_cannot_start(execute, command, code, kind, words):
    output = Output()
    with pytest.raises(kind, match="OCI runtime create failed") as caught:
        execute(command, sink=output)
    assert caught.value.exit_code == code
    assert words in caught.value.message
    assert output.err == ""  # the complaint is the error, not output of the command


def test_capabilities_and_groups_are_dockers(execute):  # threat 37
    def status(user: str) -> dict[str, str]:
        _, output = execute("cat", "/proc/self/status", user=user)
        return dict(line.split(":\t", 1) for line in output.out.splitlines())

    default = "00000000a80425fb"
    as_root = status("")
    assert [as_root[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [
        "0" * 16,
        *[default] * 3,
        "0" * 16,
    ]
    assert as_root["Seccomp"] == "2"
    assert as_root["Groups"].split() == ["0"]
    as_bob = status("bob")
    assert [as_bob[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [
        *["0" * 16] * 3,
        default,
        "0" * 16,
    ]
    assert as_bob["Uid"].split() == ["1000"] * 4
    assert as_bob["Groups"].split() == ["4", "29", "1000"]
    assert status("bob:web")["Groups"].split() == ["33"]
    assert status("4711:4712")["Gid"].split() == ["4712"] * 4


def test_privileged_gets_what_the_host_has(execute):
    _, output = execute("cat", "/proc/self/status", privileged=True)
    status = dict(line.split(":\t", 1) for line in output.out.splitlines())
    host_bounding = next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapBnd" in line)
    assert status["CapEff"] == host_bounding.split()[1]
    assert status["Seccomp"] == "0"


def test_no_descriptor_and_no_variable_of_the_host_gets_in(execute, monkeypatch):  # threats 34, 38
    monkeypatch.setenv("LAMINA_CANARY", "leaked")
    leak = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        _, output = execute("sh", "-c", "ls /proc/1/fd; env")
    finally:
        os.close(leak)
    lines = output.out.split()
    assert {word for word in lines if word.isdigit()} <= {"0", "1", "2", "3"}  # 3: sh's or ls' own
    assert "CANARY" not in output.out
    assert "HOME=/root" in lines


@pytest.mark.parametrize("path", ["/proc/self/fd/7", "/proc", "/tmp/../proc/self/cwd", "relative"])
def test_working_directories_that_lead_out_are_refused(execute, path):  # threats 16, 34
    with pytest.raises(rootfs_module.UnsafePath):
        execute("true", cwd=path)


def test_working_directory_is_made_inside(execute, rootfs: Path):
    (rootfs / "link").symlink_to("/made/here")
    code, output = execute("pwd", cwd="/link/deep")
    assert (code, output.out) == (0, "/made/here/deep\n")
    assert (rootfs / "made/here/deep").is_dir()


def test_mount_points_leave_no_trace_in_the_layer(execute, rootfs: Path):  # threat 24
    upper = rootfs.parent / "upper"
    before = {name: (rootfs / name).stat().st_mtime_ns for name in ("etc", ".")}
    execute("true", mounts=(OciMount("/cache/deep", str(rootfs.parent), "bind", ("rbind", "ro")),))
    assert not (rootfs / "cache").exists()
    assert not (rootfs / "proc").exists()
    assert not (rootfs / "etc/resolv.conf").exists()
    assert {name: (rootfs / name).stat().st_mtime_ns for name in before} == before
    assert {str(path.relative_to(upper)) for path in upper.rglob("*")} <= {"etc"}


def test_stub_that_was_replaced_by_a_link_is_left_alone(execute, rootfs: Path, tmp_path: Path):  # threat 24
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "stub").mkdir()
    source = tmp_path / "source"
    source.mkdir()
    execute(
        "sh",
        "-c",
        f"umount /a/stub; rmdir /a/stub /a; ln -s {canary} /a",
        privileged=True,
        mounts=(OciMount("/a/stub", str(source), "bind", ("rbind",)),),
    )
    assert (canary / "stub").is_dir()


def test_standard_input(execute):
    data = b"x" * 3_000_000
    code, output = execute("wc", "-c", stdin=data)
    assert (code, output.out.strip()) == (0, "3000000")
    assert execute("cat")[1].out == ""
    assert execute("true", stdin=data)[0] == 0  # a reader that goes away is no error


def test_large_output_arrives_whole(execute):
    _, output = execute("sh", "-c", "dd if=/dev/zero bs=1M count=20 2>/dev/null")
    assert len(output.streams["stdout"]) == 20 << 20


def test_cancel_kills_the_command_and_its_children(execute):
    cancel = threading.Event()

    def sink(_stream, _piece):
        cancel.set()

    with pytest.raises(ExecutionCancelled):
        execute("sh", "-c", "trap '' TERM; sleep 1000 & echo up; while :; do wait; done", cancel=cancel, sink=sink)


def test_an_error_in_the_sink_ends_the_command(execute):
    def sink(_stream, _piece):
        raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        execute("sh", "-c", "echo up; sleep 1000", sink=sink)


def test_host_and_none_networks(execute):
    inside = execute("readlink", "/proc/self/ns/net", network="host")[1].out
    assert inside.strip() == os.readlink("/proc/self/ns/net")
    alone = execute("cat", "/proc/net/dev", network="none")[1].out
    assert [line.split(":")[0].strip() for line in alone.splitlines()[2:]] == ["lo"]


def test_read_only_root(execute):
    code, output = execute("sh", "-c", "touch /x", readonly=True)
    assert code == 1
    assert "Read-only file system" in output.err


def test_limits_above_the_hosts_are_lowered_with_a_warning(rootfs: Path, run_root: Path):
    said: list[str] = []
    output = Output()
    executor = Executor(run_root, warn=said.append)
    limit = Rlimit("nofile", 1 << 20, 1 << 20)
    executor.run(ExecRequest(str(rootfs), ("sh", "-c", "ulimit -n"), network="none", rlimits=(limit,)), output)
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 1 << 20:
        assert said == [f"ulimit nofile: lowered to {hard}, this machine's hard limit"]
    assert int(output.out) == min(hard, 1 << 20)


def test_hostile_user_databases_are_refused_before_anything_runs(execute, rootfs: Path):  # threat 15
    passwd = rootfs / "etc/passwd"
    kinds: list[Callable[[], object]] = [
        lambda: passwd.symlink_to("/dev/zero"),
        lambda: os.mkfifo(passwd),
        lambda: subprocess.run(["truncate", "-s", "4G", passwd], check=True),
    ]
    for make in kinds:
        passwd.unlink()
        make()
        with pytest.raises(users.UnsafeUserDatabase, match="/etc/passwd in the image"):
            execute("true", user="bob")


def test_hosts_and_resolver_files(execute):
    _, output = execute(
        "sh", "-c", "cat /etc/hosts /etc/resolv.conf; hostname", hostname="box", extra_hosts=(("db", "10.0.0.9"),)
    )
    assert "10.0.0.9\tdb\n" in output.out
    assert "nameserver " in output.out
    assert output.out.endswith("box\n")


def test_what_a_killed_process_left_running_is_swept(rootfs: Path, run_root: Path):  # F22
    program = textwrap.dedent(
        f"""
        import sys
        from lamina.runtime.executor import ExecRequest, Executor
        request = ExecRequest({str(rootfs)!r}, ("sh", "-c", "echo up; sleep 1000"), network="none")
        Executor({str(run_root)!r}).run(request, lambda s, b: print("up", flush=True))
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        child.send_signal(signal.SIGKILL)
    left = os.listdir(run_root / "exec")
    assert len(left) == 1
    executor = Executor(run_root)
    assert executor.sweep() == 1
    assert os.listdir(run_root / "exec") == []
    assert not list(Path("/sys/fs/cgroup").rglob(left[0]))
