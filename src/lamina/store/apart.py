"""Runs `lamina.layer.worker`: one layer applied by a process of its own, fed through a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
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


class ApplyWorker:
    """One layer on its way into a tree. A context manager; leaving it early kills the process.

    `write` all of the blob, then `end`, then `result`. Any of them raises what the process failed with.
    """

    def __init__(
        self, tree: str, whiteouts: WhiteoutMode, limits: Limits, check: Callable[[], None], *, userxattr: bool
    ) -> None:
        """Starts the process.

        Args:
            tree: the directory to unpack into.
            whiteouts: as for `apply_layer`.
            limits: as for `apply_layer`.
            check: asked while waiting for the process; raises when the work is no longer wanted.
            userxattr: as for `apply_layer`.

        Raises:
            WorkerDied: it cannot be started.
        """
        self._check = check
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
        while not poll.poll(_LOOK):
            self._check()

    def __enter__(self) -> ApplyWorker:
        return self

    def __exit__(self, *_exc: object) -> None:
        process = self._process
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
