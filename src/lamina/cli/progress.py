"""Shows `lamina.progress.Progress` events: docker pull's bars on a terminal, plain lines elsewhere.

with transfer_progress(ctx, ctx.stdout, quiet=options.quiet) as sink:
    engine.images.pull(reference, progress=sink)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from lamina.cli.terminal import CURSOR_DOWN, CURSOR_UP, ERASE_LINE, clip, printable
from lamina.progress import Progress

if TYPE_CHECKING:
    from lamina.cli.context import Context

BAR = 50  # cells between the brackets
WIDE = 110  # columns from which docker draws the bar
MIN_INTERVAL = 0.05  # seconds between two redraws of one id in one state


class ProgressRenderer:
    """Base of the renderers: a thread-safe sink that is also a context manager."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._gone = False

    def __call__(self, event: Progress) -> None:
        """Shows one event; a stream that is gone ends the output, not the work."""
        with self._lock:
            if self._gone:
                return
            try:
                self._show(event)
            except (OSError, ValueError):
                self._gone = True

    def __enter__(self) -> ProgressRenderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the cursor on a fresh line."""
        with self._lock:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                pass

    def _show(self, event: Progress, /) -> None:
        """Writes one event; the base shows nothing."""


class QuietProgress(ProgressRenderer):
    """Shows nothing."""


class PlainProgress(ProgressRenderer):
    """One line per change of state; byte counts are left out, as docker does for pipes."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._last: dict[str, str] = {}

    def _show(self, event: Progress) -> None:
        if event.id:
            if self._last.get(event.id) == event.status or (event.current is not None and not event.final):
                return
            self._last[event.id] = event.status
        self._stream.write(line(event) + "\n")
        self._stream.flush()


class TerminalProgress(ProgressRenderer):
    """One line per id, redrawn in place; events without an id are ordinary lines that start a new block.

    Args:
        stream: a terminal.
        size: gives (columns, lines) of the terminal, asked at every draw.
        clock: monotonic seconds.
    """

    def __init__(
        self, stream: TextIO, size: Callable[[], tuple[int, int]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(stream)
        self._size = size
        self._clock = clock
        self._rows: dict[str, int] = {}
        self._drawn: dict[str, tuple[str, float]] = {}

    def _show(self, event: Progress) -> None:
        columns, lines = self._size()
        if not event.id:
            self._rows.clear()
            self._stream.write(clip(line(event), columns) + "\n" if event.current is not None else line(event) + "\n")
            self._stream.flush()
            return
        now = self._clock()
        status, drawn_at = self._drawn.get(event.id, ("", 0.0))
        complete = event.final or event.current is None or event.current == event.total
        if status == event.status and not complete and now - drawn_at < MIN_INTERVAL:
            return
        self._drawn[event.id] = (event.status, now)
        text = clip(line(event, columns), columns - 1)
        row = self._rows.get(event.id)
        if row is None:
            self._rows[event.id] = len(self._rows)
            self._stream.write(text + "\n")
        else:
            up = len(self._rows) - row
            if up >= lines:  # scrolled away: the cursor cannot get there any more
                return
            self._stream.write(f"{CURSOR_UP.format(up)}\r{ERASE_LINE}{text}\r{CURSOR_DOWN.format(up)}")
        self._stream.flush()


def line(event: Progress, columns: int = 0) -> str:
    """The text of an event: `id: status`, with a bar when `columns` are known; controls escaped (threat 32)."""
    status = printable(event.status)
    head = f"{printable(event.id)}: {status}" if event.id else status
    if not columns or event.current is None or event.final:
        return head
    return f"{head} {bar(event.current, event.total, columns)}"


def bar(current: int, total: int | None, columns: int) -> str:
    """Docker's bar: `[=====>     ]  3.2MB/10MB`; only the count when the total is unknown or exceeded."""
    from lamina.cli.format.units import human_size

    if not total or current > total:
        return f"{human_size(current):>8}"
    numbers = f"{human_size(current):>8}/{human_size(total)}"
    if columns <= WIDE:
        # Docker drops the bar on narrow terminals; half of one still tells more than numbers alone.
        return numbers
    filled = current * BAR // total
    return f"[{'=' * filled}>{' ' * (BAR - filled)}] {numbers}"


def transfer_progress(ctx: Context, stream: TextIO, *, quiet: bool = False) -> ProgressRenderer:
    """The renderer that fits the stream: quiet, terminal or plain."""
    if quiet:
        return QuietProgress(stream)
    if ctx.is_tty(stream) and ctx.env.get("TERM") != "dumb":
        return TerminalProgress(stream, lambda: ctx.terminal_size(stream))
    return PlainProgress(stream)
