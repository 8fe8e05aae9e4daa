"""Several server processes on one listening socket, watched by a parent that does nothing else."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

from lamina.linux.syscalls import die_with_parent

logger = logging.getLogger("lamina.registry")
#: A worker that lives shorter than this, in seconds, is not replaced at once.
_SETTLED: Final = 1.0


def supervise(work: Callable[[], None], count: int, at_end: Callable[[], None]) -> None:
    """Run `work` in `count` forked processes until SIGTERM or SIGINT; replace those that die before.

    A worker whose parent is killed dies as well: nobody would watch it, and the next server could not have the port.
    Must be called while the process has one thread. Returns when all workers have drained and ended.

    Args:
        work: what a worker does until it is signalled.
        count: how many.
        at_end: called in the parent once no more will be started.
    """
    children: dict[int, float] = {}
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        at_end()
        for child in children:
            os.kill(child, signal.SIGTERM)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for _ in range(count):
            if not stopping:
                _start(work, children)
        while children:
            child, status = os.wait()
            born = children.pop(child, None)
            if born is None or stopping:
                continue
            logger.error("worker %d ended with status %d, starting another", child, os.waitstatus_to_exitcode(status))
            if time.monotonic() - born < _SETTLED:
                time.sleep(_SETTLED)
            if not stopping:
                _start(work, children)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(work: Callable[[], None], children: dict[int, float]) -> None:
    # A signal between fork and entry in the table must not be lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    parent, child = os.getpid(), os.fork()
    if child:
        children[child] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        return
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        if die_with_parent(parent):
            work()
        code = 0
    except BaseException:
        logger.exception("worker failed")
    finally:
        os._exit(code)
