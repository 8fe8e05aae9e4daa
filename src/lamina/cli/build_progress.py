"""Shows a build: BuildKit's plain log, or a live view on a terminal.

    with build_progress(ctx, ctx.stderr, mode=options.progress, quiet=options.quiet) as sink:
        engine.builds.build(..., progress=sink)

Modes: `auto` (live view on a terminal, else plain), `tty`, `plain`, `quiet`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from lamina.build.progress import (
    BuildEvent,
    BuildWarning,
    VertexCached,
    VertexDone,
    VertexLog,
    VertexProgress,
    VertexStarted,
)
from lamina.cli.build_state import BuildState, Vertex
from lamina.cli.terminal import CURSOR_UP, ERASE_BELOW, HIDE_CURSOR, SHOW_CURSOR, clip, paint, printable

if TYPE_CHECKING:
    from lamina.cli.context import Context

PATIENCE = 1.0  # seconds that one vertex keeps the plain log to itself while others wait
NOTABLE = 0.01  # seconds from which on the log tells how long a part took
STRIDE = 0.05  # share of a part's total that is worth a new line
PAUSE = 5.0  # seconds after which a part is shown again though it has not got that far
TICK = 0.1  # seconds between redraws of the live view
LOG_LINES = 6  # log lines shown under a running vertex
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
MODES = ("auto", "plain", "quiet", "tty")


class BuildRenderer:
    """Base: a thread-safe sink and context manager that shows nothing but the report of a failure (quiet mode)."""

    def __init__(self, stream: TextIO, *, color: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._color = color
        self._clock = clock
        self._lock = threading.Lock()
        self._gone = False
        self.state = BuildState()

    def __call__(self, event: BuildEvent) -> None:
        """Takes one event; a stream that is gone ends the output, not the build."""
        with self._lock:
            now = self._clock()
            vertex, lines = self.state.apply(event, now)
            if not self._gone:
                try:
                    self._shown(event, vertex, lines, now)
                except (OSError, ValueError):
                    self._gone = True

    def __enter__(self) -> BuildRenderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Shows what is still held back, the warnings, and the log tail of failed vertices."""
        with self._lock:
            if self._gone:
                return
            try:
                self._finish()
                self._stream.flush()
            except (OSError, ValueError):
                self._gone = True

    def _shown(self, event: BuildEvent, vertex: Vertex | None, lines: list[str], now: float, /) -> None:
        """Writes what an event changed; the base shows nothing."""

    def _finish(self) -> None:
        self._failures()

    def _failures(self) -> None:
        for vertex in self.state.vertices.values():
            if not vertex.error:
                continue
            self._stream.write(f"------\n > {printable(vertex.name)}:\n")
            for since, line in vertex.tail:
                self._stream.write(f"{seconds(since)} {printable(line)}\n")
            self._stream.write("------\n")

    def _warnings(self) -> None:
        warnings = self.state.warnings
        if not warnings:
            return
        plural = "" if len(warnings) == 1 else "s"
        heading = f"{len(warnings)} warning{plural} found:"
        self._stream.write("\n " + paint(heading, "yellow", enabled=self._color) + "\n")
        for warning in warnings:
            self._stream.write(" - " + warning_text(warning) + "\n")


def seconds(since: float) -> str:
    """The time stamp of a log line: three significant places below 100 seconds, as BuildKit's."""
    return f"{since:.{3 if since < 10 else 2 if since < 100 else 1}f}"


def warning_text(warning: BuildWarning) -> str:
    """`Rule: message (line 3)`."""
    head = f"{warning.rule}: " if warning.rule else ""
    where = f" (line {warning.line})" if warning.line else ""
    return printable(f"{head}{warning.message}{where}")


class PlainBuild(BuildRenderer):
    """BuildKit's `--progress=plain`: numbered blocks, one vertex at a time.

    A vertex keeps the log until it ends, or until another waits and it has had `PATIENCE` seconds; when it loses
    the log unfinished, `#3 ...` marks the place, and its name is repeated when it comes back.
    """

    def __init__(self, stream: TextIO, *, color: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream, color=color, clock=clock)
        self._current: Vertex | None = None
        self._since = 0.0
        self._held: dict[int, tuple[Vertex, list[str]]] = {}  # index -> lines that wait for their turn
        self._begun = False
        self._told: dict[tuple[int, str], tuple[float, int]] = {}  # when a part was last shown, and at how much

    def _shown(self, event: BuildEvent, vertex: Vertex | None, lines: list[str], now: float) -> None:
        if vertex is None:
            return
        out = self._text(event, vertex, lines, now)
        if self._current is None or vertex is self._current or now - self._since >= PATIENCE:
            self._give(vertex, now)
            self._emit(out)
        else:
            self._held.setdefault(vertex.index, (vertex, []))[1].extend(out)
        if self._current is not None and self._current.ended is not None:
            self._current = None
            self._next(now)
        self._stream.flush()

    def _text(self, event: BuildEvent, vertex: Vertex, lines: list[str], now: float) -> list[str]:
        number = f"#{vertex.index} "
        since = now - vertex.started
        out = [f"{number}{seconds(since)} {printable(line)}" for line in lines]
        match event:
            case VertexCached():
                out.append(number + "CACHED")
            case VertexDone(error="") if not event.canceled:
                out.append(f"{number}DONE {vertex.duration:.1f}s")
            case VertexDone(canceled=True):
                out.append(number + "CANCELED")
            case VertexDone():
                out.append(f"{number}ERROR: {printable(event.error)}")
            case VertexProgress() if self._worth(event, vertex.index, now):
                spent = now - vertex.begun[event.item]
                took = f" {spent:.1f}s" if spent > NOTABLE else ""
                out.append(f"{number}{item_text(event)}{took}" + (" done" if event.done else ""))
            case VertexStarted() | VertexLog():
                pass
            case _:
                pass
        return out

    def _worth(self, event: VertexProgress, index: int, now: float) -> bool:
        """Whether to show a part again: at its end, and when it got a good bit further, or older."""
        current = event.current or 0
        if not current and not event.done:
            return False  # BuildKit's log shows it only if it is still at nothing at the next redraw
        last = self._told.get((index, event.item))
        if last is not None and not event.done:
            further = (current - last[1]) / event.total if event.total else 0.0
            if further < STRIDE and now - last[0] < PAUSE:
                return False
        self._told[index, event.item] = now, current
        return True

    def _give(self, vertex: Vertex, now: float) -> None:
        if vertex is self._current:
            return
        if self._current is not None:
            self._stream.write(f"#{self._current.index} ...\n")
        if self._begun:
            self._stream.write("\n")
        self._begun = True
        self._current, self._since = vertex, now
        self._stream.write(f"#{vertex.index} {printable(vertex.name)}\n")
        _, held = self._held.pop(vertex.index, (vertex, []))
        self._emit(held)

    def _next(self, now: float) -> None:
        """Gives the free log to whoever waits: first the ended vertices, then the oldest that still runs."""
        while self._held and self._current is None:
            index = min(self._held, key=lambda key: (self._held[key][0].ended is None, key))
            vertex = self._held[index][0]
            self._give(vertex, now)
            if vertex.ended is not None:
                self._current = None

    def _emit(self, lines: list[str]) -> None:
        self._stream.write("".join(line + "\n" for line in lines))

    def _finish(self) -> None:
        self._current = None
        now = self._clock()
        while self._held:
            self._current = None
            self._next(now)
        self._failures()
        self._warnings()


def item_text(event: VertexProgress) -> str:
    """`transferring context: 1.2MB / 3MB`."""
    text = printable(event.item)
    if event.total:
        return f"{text} {amount(event.current or 0)} / {amount(event.total)}"
    return f"{text} {amount(event.current)}" if event.current else text


def amount(size: int) -> str:
    """A size as BuildKit writes it: `2B`, `195.08kB`."""
    value, step = float(size), 0
    while value >= 1000 and step < len(_UNITS) - 1:
        value, step = value / 1000, step + 1
    return f"{value:.2f}{_UNITS[step]}" if step else f"{size}B"


class LiveBuild(BuildRenderer):
    """The live view: a header and one line per vertex, redrawn in place."""

    def __init__(
        self,
        stream: TextIO,
        size: Callable[[], tuple[int, int]],
        *,
        color: bool = False,
        clock: Callable[[], float] = time.monotonic,
        ticking: bool = True,
    ) -> None:
        super().__init__(stream, color=color, clock=clock)
        self._size = size
        self._began = clock()
        self._height = 0
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="build-progress", daemon=True) if ticking else None

    def __enter__(self) -> LiveBuild:
        self._stream.write(HIDE_CURSOR)
        if self._ticker is not None:
            self._ticker.start()
        return self

    def close(self) -> None:
        """Stops the ticker and leaves the final picture."""
        self._stop.set()
        if self._ticker is not None and self._ticker.is_alive():
            self._ticker.join()
        super().close()

    def _tick(self) -> None:
        while not self._stop.wait(TICK):
            with self._lock:
                if self._gone:
                    return
                try:
                    self.draw()
                except (OSError, ValueError):
                    self._gone = True

    def draw(self, *, finished: bool = False) -> None:
        """Replaces the picture; on a low terminal only the last lines are shown until the end."""
        columns, height = self._size()
        now = self._clock()
        lines = self._picture(now, columns, finished=finished)
        if not finished and len(lines) > height - 1:
            lines = lines[:1] + lines[len(lines) - height + 2 :]
        back = f"{CURSOR_UP.format(self._height)}\r" if self._height else ""
        self._stream.write(back + ERASE_BELOW + "".join(line + "\n" for line in lines))
        self._stream.flush()
        self._height = len(lines)

    def _picture(self, now: float, columns: int, *, finished: bool) -> list[str]:
        ended, total = self.state.counts()
        header = f"[+] Building {now - self._began:.1f}s ({ended}/{total})" + (" FINISHED" if finished else "")
        lines = [paint(clip(header, columns), "blue", enabled=self._color and finished)]
        for vertex in self.state.vertices.values():
            lines.append(self._vertex_line(vertex, now, columns))
            for item in vertex.items.values():
                lines.append(self._item_line(vertex, item, now, columns))
            if vertex.ended is None:
                lines += [clip(f" => => # {printable(text)}", columns) for _, text in list(vertex.tail)[-LOG_LINES:]]
        return lines

    def _vertex_line(self, vertex: Vertex, now: float, columns: int) -> str:
        state = "CACHED " if vertex.cached else "ERROR " if vertex.error else "CANCELED " if vertex.canceled else ""
        spent = vertex.duration if vertex.ended is not None else now - vertex.started
        line = _timed(f" => {state}{printable(vertex.name)}", spent, columns)
        color = "red" if vertex.error else "yellow" if vertex.canceled else "blue"
        return paint(line, color, enabled=self._color and vertex.ended is not None)

    def _item_line(self, vertex: Vertex, item: VertexProgress, now: float, columns: int) -> str:
        begun = vertex.begun[item.item]
        ended = vertex.settled.get(item.item, now if vertex.ended is None else vertex.ended)
        line = _timed(f" => => {item_text(item)}", ended - begun, columns)
        return paint(line, "blue", enabled=self._color and item.done)

    def _finish(self) -> None:
        self.draw(finished=True)
        self._stream.write(SHOW_CURSOR)
        self._failures()
        self._warnings()


def _timed(text: str, spent: float, columns: int) -> str:
    """A line with its seconds at the right edge."""
    from lamina.cli.format.units import display_width

    clock = f" {spent:.1f}s"
    room = max(columns - len(clock) - 1, 8)
    text = clip(text, room)
    return text + " " * (room - display_width(text)) + clock


def build_progress(ctx: Context, stream: TextIO, *, mode: str = "auto", quiet: bool = False) -> BuildRenderer:
    """The renderer for a mode.

    Raises:
        CliError: the mode is unknown.
    """
    if quiet or mode == "quiet":
        return BuildRenderer(stream)
    if mode not in MODES:
        from lamina.cli.failures import CliError

        raise CliError(f"invalid progress mode {mode}: choose one of {', '.join(MODES)}")
    terminal = ctx.is_tty(stream) and ctx.env.get("TERM") != "dumb"
    if mode == "tty" and not terminal:
        from lamina.cli.failures import CliError

        raise CliError("failed to get console: the output is not a terminal (use --progress=plain)")
    if mode == "tty" or (mode == "auto" and terminal):
        return LiveBuild(stream, lambda: ctx.terminal_size(stream), color=ctx.color(stream))
    return PlainBuild(stream, color=ctx.color(stream))
