"""What a killed command left half done with a container: found, and either taken over or taken away.

Everything that starts a container, looks into a stopped one or removes one does so with the container's lock held and
its bundle directory (`RuntimePaths.run`) in place. So a directory, or a status that only lasts for a moment, with
nobody holding the lock is what a killed process left. The kernel gives the lock back, whatever a process dies of.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from lamina.errors import LaminaError
from lamina.runtime import conmon, oci, process
from lamina.runtime.config import ContainerOptions
from lamina.runtime.oci import Runtime
from lamina.runtime.paths import RuntimePaths
from lamina.runtime.state import ContainerRecord, ContainerState, Status
from lamina.spec.timestamp import rfc3339
from lamina.values import dataclass, replace

if TYPE_CHECKING:
    from lamina.runtime.network.bridge import Endpoint

INTERRUPTED: Final = "the command that started it was killed"
NOT_RESTARTED: Final = "the process that was to start it again was killed"
_DEATH_SECONDS: Final = 10.0
_EXITED: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "exited.py")


@dataclass(frozen=True, slots=True)
class Survivor:
    """A container that was started by a command which died before it could note that.

    Attributes:
        pid: of its first process; that may have ended by now.
        conmon: pid of the conmon that watches it, or 0 when that is gone.
        started: seconds since the epoch.
    """

    pid: int
    conmon: int
    started: float


def is_interrupted(record: ContainerRecord, paths: RuntimePaths) -> bool:
    """Whether a record that does not say `running` shows a change under way, or one that was killed.

    The container's lock tells which: who gets it, and still finds this to be so, has found the latter.
    """
    if record.state.status == "restarting":
        return not process.alive(record.state.conmon)
    return record.state.status == "removing" or os.path.isdir(paths.run(record.id))


def survivor(directory: str, container_id: str, runtime: Runtime | None) -> Survivor | None:
    """What became of a container whose start was not noted: None when it never ran.

    Args:
        directory: its bundle.
        container_id: its id.
        runtime: that has it, or None.
    """
    pid, watcher = conmon.read_pid(conmon.pid_file(directory)), conmon.read_pid(conmon.conmon_pid_file(directory))
    watcher = watcher if watcher in watchers(container_id) else 0
    if conmon.exit_code(directory) is None:
        pid = _running(container_id, runtime)
        if not pid:
            return None
    try:
        started = os.stat(conmon.pid_file(directory)).st_mtime
    except FileNotFoundError:
        return None
    return Survivor(pid, watcher, started)


def noted(state: ContainerState, survivor: Survivor, endpoint: Endpoint | None) -> ContainerState:
    """The state of a survivor, as the command that started it would have noted it."""
    return replace(
        state,
        status="running",
        pid=survivor.pid,
        process=process.stamp(survivor.pid),
        conmon=process.stamp(survivor.conmon),
        exit_code=0,
        error="",
        oom_killed=False,
        started_at=rfc3339(datetime.fromtimestamp(survivor.started, UTC)),
        stopped_by_user=False,
        endpoint=endpoint.to_json() if endpoint else None,
    )


def undone(state: ContainerState, *, starting: bool) -> ContainerState:
    """The state of a container whose start, or next start, came to nothing."""
    if starting:
        status: Status = "exited" if state.started_at else "created"
        return replace(state, status=status, exit_code=128, error=INTERRUPTED)
    if state.status == "restarting":
        return replace(state, status="exited", error=NOT_RESTARTED)
    return state


def apply_policy(record: ContainerRecord, paths: RuntimePaths, python: str) -> None:
    """Has a container started again, where its policy says so, whose conmon was not there any more to see to it.

    It happens in a process of its own, as after any other end.
    """
    policy = ContainerOptions.from_json(record.options).restart
    if policy.name != "no":
        with suppress(LaminaError):
            oci.call(["setsid", "--fork", *exit_command(python, paths, record.id)])


def exit_command(python: str, paths: RuntimePaths, container_id: str) -> tuple[str, ...]:
    """What is to run when a container has ended (`lamina.runtime.exited`)."""
    # -I and -S: nothing of the user's environment, and a third of the start-up time.
    return (python, "-I", "-S", _EXITED, paths.root, paths.run_root, paths.database, container_id)


def _running(container_id: str, runtime: Runtime | None) -> int:
    """The pid of a container's first process as the runtime knows it, or 0 when it does not run."""
    if runtime is None:
        return 0
    with suppress(LaminaError, ValueError, KeyError, TypeError):
        state = json.loads(oci.call(runtime.argv("state", container_id)))
        if state["status"] in {"running", "paused"}:
            return int(state["pid"])
    return 0


def watchers(container_id: str) -> Iterator[int]:
    """The conmon processes of a container, those of `exec` too."""
    return _with_words(os.fsencode(f"--cid\0{container_id}\0"))


def end_start(container_id: str, directory: str, but: int) -> None:
    """Ends all that still works on a start: conmon, what stands before the runtime, and the runtime.

    When this returns they are gone, so that none makes a control group or a mount behind the one who cleans up.

    Args:
        container_id: of the container, whose lock is held.
        directory: its bundle.
        but: a pid to spare.
    """
    spared = {but, os.getpid()}
    while found := {*watchers(container_id), *_runtimes(directory)} - spared:
        for pid in found:
            if not _end(pid, container_id):
                spared.add(pid)  # in the kernel's hands, which will not let it go on


def _runtimes(directory: str) -> Iterator[int]:
    """The processes that have a bundle in their arguments, which conmon gave them."""
    return _with_words(os.fsencode(f"--bundle\0{directory}\0"))


def _with_words(words: bytes) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit() and words in _arguments(int(name)):
            yield int(name)


def _arguments(pid: int) -> bytes:
    """Its command line as proc_pid_cmdline(5) has it; nothing when it has ended."""
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()
    return b""


def _end(pid: int, container_id: str) -> bool:
    """Kills a process and waits for its end; says whether that came."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if os.fsencode(container_id) not in _arguments(pid):  # ended, and its number is another's
            return True
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        return bool(select.select([fd], [], [], _DEATH_SECONDS)[0])
    finally:
        os.close(fd)
