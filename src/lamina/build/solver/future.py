"""Answers that are still being worked out: what `concurrent.futures` has, without the modules that it imports.

Those (logging, traceback, queue) cost more start-up time than a build needs that finds everything in its cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Future(Generic[T]):
    """One answer or failure, given once and asked for from any thread."""

    def __init__(self) -> None:
        self._given = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Future[T]], None]] = []
        self._answer: list[T] = []
        self._error: BaseException | None = None

    def set_result(self, answer: T) -> None:
        """Give the answer; callbacks run on this thread."""
        self._answer.append(answer)
        self._settle()

    def set_exception(self, error: BaseException) -> None:
        """Give the failure; callbacks run on this thread."""
        self._error = error
        self._settle()

    def _settle(self) -> None:
        with self._lock:
            self._given.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def done(self) -> bool:
        """Whether it is answered."""
        return self._given.is_set()

    def result(self) -> T:
        """Wait for the answer.

        Raises:
            BaseException: the failure that was given instead.
        """
        self._given.wait()
        if self._error is not None:
            raise self._error
        return self._answer[0]

    def exception(self) -> BaseException | None:
        """Wait; the failure, or None when there is an answer."""
        self._given.wait()
        return self._error

    def add_done_callback(self, callback: Callable[[Future[T]], None]) -> None:
        """Have a function called with this future once it is answered; at once when it is. It must not raise."""
        with self._lock:
            if not self._given.is_set():
                self._callbacks.append(callback)
                return
        callback(self)


def answer_into(future: Future[T], work: Callable[[], T], name: str) -> Future[T]:
    """Run `work` on a thread of its own and give what it returns or raises to the future."""

    def run() -> None:
        try:
            answer = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(answer)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
