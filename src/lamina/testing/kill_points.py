"""Kills a process at each place where it touches the machine, one place at a time.

The places are the interpreter's own audit events (PEP 578): files opened, made, renamed and removed, programs and
sockets started, processes signalled. Code under test needs no hooks, and the same action has the same places again.

    places = kill_points.places(action)
    for number in range(len(places)):
        kill_points.killed_at(number, action)   # action died there, in a process of its own
        ...                                     # look at what it left

`action` runs in a forked process: it must open its own database, and anything else that does not survive a fork.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

_EVENTS: Final = frozenset(
    {
        "open", "os.chmod", "os.chown", "os.kill", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
        "os.setxattr", "os.symlink", "os.truncate", "os.utime", "shutil.rmtree", "socket.bind", "socket.connect",
        "sqlite3.connect", "subprocess.Popen",
    }
)  # fmt: skip


def places(action: Callable[[], object]) -> list[str]:
    """Runs the action to its end; returns a line for each place where it could have been killed.

    Raises:
        AssertionError: the action failed.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        seen: list[str] = []
        _watch(lambda event, arguments: seen.append(f"{event} {arguments[:1]}"))
        status = _carry_out(action)
        with os.fdopen(write_end, "wb") as out:
            pickle.dump(seen, out)
        os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        found = answer.read()
    assert os.waitpid(child, 0)[1] == 0, "the action failed; its traceback is above"
    lines: list[str] = pickle.loads(found)  # noqa: S301 - our own child wrote it
    return lines


def killed_at(number: int, action: Callable[[], object]) -> bool:
    """Runs the action and kills its process (SIGKILL) just before a place.

    Args:
        number: of the place, from 0.
        action: what to run.

    Returns:
        False when the action ended before it came there.
    """
    child = os.fork()
    if child == 0:
        left = [number]

        def step(_event: str, _arguments: tuple[Any, ...]) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        _watch(step)
        os._exit(_carry_out(action))
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _watch(step: Callable[[str, tuple[Any, ...]], None]) -> None:
    """Calls `step` at each place, from now to the end of this process: audit hooks cannot be taken away."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and not (event == "os.kill" and arguments[0] == os.getpid()):
            step(event, arguments)

    sys.addaudithook(hook)


def _carry_out(action: Callable[[], object]) -> int:
    try:
        action()
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
