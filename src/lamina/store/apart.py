"""Runs `lamina.layer.worker`: one layer applied by a process of its own, fed through a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from lamina.errors import LaminaError, Unavailable
from lamina.layer.applied import Applied, WhiteoutMode
from lamina.layer.limits import Limits
from lamina.layer.worker import START, options, result_of
from lamina.spec.digest import Digest

_PIPE: Final = 1 << 20
_LOOK: Final = 250  # milliseconds between two looks at whether the work is still wanted
_TAIL: Final = 2000
_GRACE: Final = 5.0
#: Seconds without any progress after which the process counts as stuck. Even a slow disk lets a write pass in this.
PATIENCE: Final = 120.0


class WorkerDied(Unavailable):
    """The process that unpacked a layer was killed, or the system could not run it.

    Attributes:
        status: its exit status as `subprocess` gives it: negative for a signal.
    """

    def __init__(self, status: int, said: str) -> None:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        super().__init__(
            f"the process unpacking a layer {how}" + (f": {said}" if said else ""),
            hint="try again; if it was killed for lack of memory, raise the limit of memory",
        )
        self.status = status


class WorkerStuck(Unavailable):
    """The process that unpacked a layer took nothing in and did nothing for too long; it was killed (F24).

    Attributes:
        seconds: how long.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the process unpacking a layer has done nothing for {seconds:g} seconds",
            hint="see what the kernel says of the disk below the store (dmesg), then try again",
        )
        self.seconds = seconds


class ApplyWorker:
    """One layer on its way into a tree. A context manager; leaving it early kills the process.

    `write` all of the blob, then `end`, then `result`. Any of them raises what the process failed with.
    """

    def __init__(
        self,
        tree: str,
        whiteouts: WhiteoutMode,
        limits: Limits,
        check: Callable[[], None],
        *,
        userxattr: bool,
        patience: float = PATIENCE,
    ) -> None:
        """Starts the process, which dies with the calling thread.

        Args:
            tree: the directory to unpack into.
            whiteouts: as for `apply_layer`.
            limits: as for `apply_layer`.
            check: asked while waiting for the process; raises when the work is no longer wanted.
            userxattr: as for `apply_layer`.
            patience: seconds for which it may do nothing at all.

        Raises:
            WorkerDied: it cannot be started.
        """
        self._check, self._patience = check, patience
        self._failure: LaminaError | None = None
        root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        given = options(root, whiteouts, limits, userxattr=userxattr)
        flags = ["-I", "-S", "-X", "utf8"] + (["-B"] if sys.dont_write_bytecode else [])
        try:
            self._process = subprocess.Popen(
                [sys.executable, *flags, "-c", START, given],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                pass_fds=(root,),
            )
        except OSError as error:
            raise WorkerDied(127, error.strerror or str(error)) from error
        finally:
            os.close(root)
        assert self._process.stdin is not None
        self._in = self._process.stdin.fileno()
        os.set_blocking(self._in, False)
        with suppress(OSError):  # a user may have used up what the system grants for pipes
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, _PIPE)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def failure(self) -> LaminaError | None:
        """What the process failed with, once that was raised."""
        return self._failure

    def write(self, data: bytes) -> None:
        """Hands bytes on.

        Raises:
            LaminaError: the process has failed, with this.
            WorkerStuck: it does nothing.
        """
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                self._wait(self._in, select.POLLOUT)
            except BrokenPipeError:
                self.result()
                return  # it needs no more

    def end(self) -> None:
        """All was written."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def result(self) -> tuple[Applied, Digest]:
        """Waits for the process; returns what was done and the diffID.

        Raises:
            NeedsParents, BadArchive, BadStream, UnsafeEntry, LayerLimit, ApplyFailed, ApplyDenied, Unsupported: of
                `lamina.layer`.
            WorkerDied: no answer came.
            WorkerStuck: it does nothing.
        """
        if self._failure is not None:
            raise self._failure
        try:
            applied, digest = result_of(self._answer())
        except LaminaError as error:
            self._failure = error
            raise
        return applied, Digest("sha256", digest)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        out = self._process.stdout.fileno()
        parts = []
        while True:
            self._wait(out, select.POLLIN)
            part = os.read(out, 1 << 16)
            if not part:
                break
            parts.append(part)
        status = self._process.wait()
        try:
            answer = json.loads(b"".join(parts))
        except ValueError:
            answer = None
        if status or not isinstance(answer, dict):
            raise WorkerDied(status, self._said())
        return answer

    def _said(self) -> str:
        assert self._process.stderr is not None
        said = os.read(self._process.stderr.fileno(), 1 << 16)[-_TAIL:].decode(errors="replace").strip()
        return said.rpartition("\n")[2]

    def _wait(self, fd: int, event: int) -> None:
        poll = select.poll()
        poll.register(fd, event)
        since, before = time.monotonic(), -1
        while not poll.poll(_LOOK):
            self._check()
            now, used = time.monotonic(), _processor_time(self.pid)
            if used != before:
                since, before = now, used
            elif now - since > self._patience:
                self._failure = WorkerStuck(self._patience)
                raise self._failure

    def __enter__(self) -> ApplyWorker:
        return self

    def __exit__(self, *_exc: object) -> None:
        process = self._process
        if process.poll() is None:
            process.kill()
            with suppress(
                subprocess.TimeoutExpired
            ):  # one that a broken disk holds in the kernel goes when that lets go
                process.wait(_GRACE)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _processor_time(pid: int) -> int:
    """Clock ticks that a process has used, -1 when it is gone (proc(5), fields 14 and 15 of stat)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return -1
    return int(fields[11]) + int(fields[12])
