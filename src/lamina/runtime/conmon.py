"""Starts conmon, the small program that watches one container for as long as it runs and outlives us (conmon(8)).

conmon holds the container's pipes or terminal, writes its log, serves the attach socket, and notes the exit code.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lamina.errors import NotFound, Unavailable
from lamina.runtime import oci
from lamina.runtime.oci import Runtime
from lamina.values import dataclass

if TYPE_CHECKING:
    import socket

START_SECONDS: Final = 120.0


class NoConmon(NotFound):
    """conmon is not installed."""

    hint = "install the package conmon"

    def __init__(self) -> None:
        super().__init__("conmon is not installed; containers cannot run without it")


class ConmonFailed(Unavailable):
    """conmon ended before it could say how the container fared."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that conmon has to know.

    Attributes:
        runtime: the OCI runtime to use.
        container_id: 64 hex digits.
        directory: the bundle; conmon's sockets, pid files, exit code and OOM mark appear there too.
        log: path of the log, or "" to keep none.
        tty: the container has a terminal.
        stdin: it has an input that can be attached to.
        stdin_once: the input is closed when an attached client goes.
        exit_command: argv run when the container has ended.
        exit_delay: seconds between its end and that command.
        log_size: bytes after which the log starts anew, or None.
        exec_spec: file with a process spec: run it in the running container instead of starting one.
    """

    runtime: Runtime
    container_id: str
    directory: str
    log: str
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    exit_command: tuple[str, ...] = ()
    exit_delay: int = 0
    log_size: int | None = None
    exec_spec: str = ""


def pid_file(directory: str) -> str:
    """Where the runtime writes the pid of the container's first process."""
    return os.path.join(directory, "pid")


def conmon_pid_file(directory: str) -> str:
    """Where conmon writes its own pid."""
    return os.path.join(directory, "conmon.pid")


def read_pid(path: str) -> int:
    """The pid in a file, or 0."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read().strip() or 0)
    except (OSError, ValueError):
        return 0


def exit_code(directory: str) -> int | None:
    """The exit code that conmon noted, or None while there is none."""
    try:
        with open(os.path.join(directory, "exit"), encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def oom_killed(directory: str) -> bool:
    """Whether the kernel killed the container for want of memory."""
    return os.path.exists(os.path.join(directory, "oom"))


def command(launch: Launch, gate: tuple[int, int] | None = None, *, attach: bool = False) -> list[str]:
    """The command line of conmon.

    Args:
        launch: what to start.
        gate: as for `Runtime.argv`, or None.
        attach: for a process in a running container, conmon has a gate of its own.

    Raises:
        NoConmon: not installed.
    """
    path = oci.find_program("conmon")
    if path is None:
        raise NoConmon
    runtime = launch.runtime
    real = runtime.argv(gate=gate)
    argv = [
        path, "--api-version", "1", "--cid", launch.container_id, "--cuuid", launch.container_id,
        "--name", launch.container_id, "--runtime", real[0], "--bundle", launch.directory,
        "--persist-dir", launch.directory, "--container-pidfile", pid_file(launch.directory),
        "--conmon-pidfile", conmon_pid_file(launch.directory), "--log-level", "error", "--full-attach",
        "--log-path", f"k8s-file:{launch.log}" if launch.log else "none:", "--no-sync-log",
    ]  # fmt: skip
    for word in real[1:]:
        argv += ["--runtime-arg", word]
    if launch.exec_spec:
        argv += ["--exec", "--exec-process-spec", launch.exec_spec]
    else:
        # conmon calls `<runtime> <arguments> create --bundle ...` and expects us to call `start` later, which costs
        # another 12 ms. `run --detach` does both; its --pid-file takes the word `create` and is then given again.
        for word in ("run", "--detach", "--pid-file"):
            argv += ["--runtime-arg", word]
    if launch.tty:
        argv.append("--terminal")
    if launch.stdin:
        argv.append("--stdin")
        if not launch.stdin_once:
            argv.append("--leave-stdin-open")
    if attach and launch.exec_spec:
        argv.append("--exec-attach")
    if launch.log_size:
        argv += ["--log-size-max", str(launch.log_size)]
    if launch.exit_command:
        argv += ["--exit-command", launch.exit_command[0]]
        for word in launch.exit_command[1:]:
            argv += ["--exit-command-arg", word]
        if launch.exit_delay:
            argv += ["--exit-delay", str(launch.exit_delay)]
    return argv


class Starting:
    """A conmon that comes up, as a context: what it is to watch starts with `go`, and not at all if that never comes.

    The mounts that the container is to see have to be there by then, since the runtime may get a mount namespace of
    its own; the bundle need not.

    Args:
        launch: what to start.
        attach: connect to its streams before it starts, so that no output is missed.
        hold: descriptors that conmon keeps open until the container ends (bound ports).
        seconds: deadline for conmon and the runtime together.

    Raises:
        NoConmon: not installed.
    """

    def __init__(
        self, launch: Launch, *, attach: bool = False, hold: Sequence[int] = (), seconds: float = START_SECONDS
    ) -> None:
        self._launch, self._attach, self._seconds = launch, attach, seconds
        self._deadline = time.monotonic() + seconds
        self._gone = False
        self._pipes = pipes = _Pipes()
        try:
            # For a process in a running container conmon announces the socket, and waits, by itself.
            gate = None if launch.exec_spec else (pipes.ready_write, pipes.go_read)
            self._child = subprocess.Popen(
                command(launch, gate, attach=attach),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=oci.CLEAN_ENV
                | {
                    "_OCI_SYNCPIPE": str(pipes.sync_write),
                    "_OCI_ATTACHPIPE": str(pipes.ready_write),
                    **({"_OCI_STARTPIPE": str(pipes.go_read)} if launch.exec_spec else {}),
                },
                cwd="/",
                pass_fds=[pipes.sync_write, pipes.ready_write, pipes.go_read, *hold],
                start_new_session=True,
            )
        except BaseException:
            pipes.close()
            raise
        pipes.close_theirs()
        if attach:
            import socket  # noqa: F401 - needed soon, and conmon takes as long to come up

    def __enter__(self) -> Starting:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            if not self._gone:
                self._call_off()
        finally:
            self._pipes.close()

    def go(self) -> tuple[int, socket.socket | None]:
        """Lets it start.

        Returns:
            The pid of the started process on the host, and the attach socket when asked for.

        Raises:
            CommandNotFound, CommandNotExecutable, StartRefused: the runtime's refusal.
            ConmonFailed: conmon itself failed.
            RuntimeTimeout: nothing happened in time; conmon was killed.
        """
        pipes, deadline = self._pipes, self._deadline
        connection: socket.socket | None = None
        try:
            if self._launch.exec_spec:
                os.write(pipes.go_write, b"\n")
            if self._attach and _line(pipes.ready_read, deadline):
                connection = connect(self._launch.directory)
            self._gone = True
            if connection is not None or not self._attach:
                os.write(pipes.go_write, b"\n")
            said = _line(pipes.sync_read, deadline)
            oci.wait_for(self._child, max(0.1, deadline - time.monotonic()))
            return _judge(said, self._launch), connection
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, TimeoutError | subprocess.TimeoutExpired):
                self._gone = True
                _kill(self._launch.directory)
                self._child.kill()
                self._child.wait()
                raise oci.RuntimeTimeout("conmon", self._seconds) from None
            raise

    def _call_off(self) -> None:
        """Ends conmon before its gate closes, which it would take for a container that failed."""
        try:
            # It notes the pid of its second half before its first one ends.
            oci.wait_for(self._child, max(0.1, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        _kill(self._launch.directory)


class _Pipes:
    """The pipes between us and conmon: the answer, `ready` (it to us) and `go` (us to it)."""

    def __init__(self) -> None:
        self.sync_read, self.sync_write = os.pipe()
        self.ready_read, self.ready_write = os.pipe()
        self.go_read, self.go_write = os.pipe()
        self._open = {
            self.sync_read, self.sync_write, self.ready_read, self.ready_write, self.go_read, self.go_write,
        }  # fmt: skip

    def close(self) -> None:
        """Closes what is still open."""
        for fd in self._open:
            os.close(fd)
        self._open.clear()

    def close_theirs(self) -> None:
        """Closes the ends that the child has now."""
        for fd in (self.sync_write, self.ready_write, self.go_read):
            os.close(fd)
            self._open.discard(fd)


def connect(directory: str) -> socket.socket:
    """Connects to the attach socket of a running container.

    Raises:
        OSError: nobody listens.
    """
    import socket

    # By way of the directory's descriptor: a socket path has 108 bytes at most (unix(7)).
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{fd}/attach")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(fd)
    return connection


def resize(directory: str, rows: int, columns: int) -> None:
    """Tells a container's terminal its size; a container that ended meanwhile does not mind."""
    try:
        fd = os.open(os.path.join(directory, "ctl"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, f"1 {rows} {columns}\n".encode())
    finally:
        os.close(fd)


def _line(fd: int, deadline: float) -> bytes:
    """One line from a pipe, or less when it ends."""
    data = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while b"\n" not in data:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        piece = os.read(fd, 1 << 16)
        if not piece:
            break
        data += piece
    # Of a process in a running container the exit code may follow already; it is in a file, too.
    first, newline, _ = data.partition(b"\n")
    return first + newline


def _judge(said: bytes, launch: Launch) -> int:
    """The pid in conmon's answer, or its complaint as an error."""
    if not said:
        raise ConmonFailed("conmon ended without an answer")
    try:
        answer = json.loads(said)
        pid, message = int(answer["data"]), str(answer.get("message", ""))
    except (ValueError, KeyError, TypeError):
        raise ConmonFailed(f"conmon's answer makes no sense: {said[:200]!r}") from None
    if pid > 0:
        return pid
    raise oci.start_error(oci.last_words(message) or message.strip(), _program(launch))


def _program(launch: Launch) -> str | None:
    """What should have run, or None."""
    path = launch.exec_spec or os.path.join(launch.directory, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            spec = json.load(file)
        return str(spec.get("process", spec)["args"][0])
    except (OSError, ValueError, LookupError):
        return None


def _kill(directory: str) -> None:
    pid = read_pid(conmon_pid_file(directory))
    if pid:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
