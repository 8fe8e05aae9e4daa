"""Progress on terminals, pipes and nowhere; builds in plain and live form."""

from __future__ import annotations

import io
import threading

import pytest

from lamina.build.progress import (
    BuildWarning,
    VertexCached,
    VertexDone,
    VertexLog,
    VertexProgress,
    VertexStarted,
)
from lamina.cli.build_progress import BuildRenderer, LiveBuild, PlainBuild, build_progress
from lamina.cli.context import Context
from lamina.cli.failures import CliError
from lamina.cli.progress import PlainProgress, TerminalProgress, bar, transfer_progress
from lamina.cli.terminal import printable
from lamina.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_leave_out_byte_counts() -> None:  # S14
    out = io.StringIO()
    with PlainProgress(out) as sink:
        sink(Progress("", "latest: Pulling from library/nginx"))
        sink(Progress("743f2d6c1f65", "Pulling fs layer"))
        sink(Progress("743f2d6c1f65", "Downloading", 10, 100))
        sink(Progress("743f2d6c1f65", "Downloading", 20, 100))
        sink(Progress("743f2d6c1f65", "Pull complete", final=True))
    assert out.getvalue() == (
        "latest: Pulling from library/nginx\n743f2d6c1f65: Pulling fs layer\n743f2d6c1f65: Pull complete\n"
    )


def test_a_terminal_redraws_each_id_on_its_line() -> None:
    out, clock = io.StringIO(), Clock()
    with TerminalProgress(out, lambda: (120, 24), clock) as sink:
        sink(Progress("aa", "Waiting"))
        sink(Progress("bb", "Waiting"))
        sink(Progress("aa", "Downloading", 25_000_000, 100_000_000))
    assert out.getvalue() == (
        "aa: Waiting\nbb: Waiting\n"
        "\x1b[2A\r\x1b[2Kaa: Downloading [============>                                      ]     25MB/100MB\r\x1b[2B"
    )


def test_redraws_are_limited_but_the_last_is_never_lost() -> None:
    out, clock = io.StringIO(), Clock()
    with TerminalProgress(out, lambda: (80, 24), clock) as sink:
        for count in range(1001):
            sink(Progress("aa", "Downloading", count, 1000))
    assert out.getvalue().count("aa:") == 2
    assert "1kB/1kB" in out.getvalue()


def test_lines_that_scrolled_away_are_not_touched() -> None:
    out = io.StringIO()
    with TerminalProgress(out, lambda: (80, 3), Clock()) as sink:
        for name in "abcde":
            sink(Progress(name, "Waiting"))
        before = out.getvalue()
        sink(Progress("a", "Pull complete", final=True))
        assert out.getvalue() == before
        sink(Progress("e", "Pull complete", final=True))
        assert out.getvalue() != before


def test_hostile_names_cannot_move_the_cursor() -> None:  # threat 32
    out = io.StringIO()
    with PlainProgress(out) as sink:
        sink(Progress("a\x1b[2J\r\n", "st\x9b31m\u202etus"))
    assert out.getvalue() == "a\\x1b[2J\\r\\n: st\\x9b31m\\u202etus\n"
    assert printable("a\nb\tc\x00", newlines=True) == "a\nb\tc\\x00"
    assert printable("bad\udcff") == "bad\\udcff"


def test_events_from_many_threads_stay_whole() -> None:
    out = io.StringIO()
    with PlainProgress(out) as sink:

        def work(number: int) -> None:
            for step in range(100):
                sink(Progress(f"layer{number}", f"step{step}"))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = out.getvalue().splitlines()
    assert sorted(lines) == sorted(f"layer{n}: step{s}" for n in range(8) for s in range(100))


def test_a_closed_stream_does_not_stop_the_work() -> None:
    out = io.StringIO()
    sink = PlainProgress(out)
    out.close()
    sink(Progress("a", "b"))
    sink.close()


def test_the_renderer_fits_the_stream(ctx: Context) -> None:
    assert type(transfer_progress(ctx, ctx.stdout)) is PlainProgress
    assert transfer_progress(ctx, ctx.stdout, quiet=True)(Progress("a", "b")) is None


@pytest.mark.parametrize(
    ("current", "total", "columns", "text"),
    [
        (5, None, 200, "      5B"),
        (200, 100, 200, "    200B"),
        (0, 100, 200, "[>" + " " * 50 + "]       0B/100B"),
        (100, 100, 200, "[" + "=" * 50 + ">]     100B/100B"),
        (50, 100, 80, "     50B/100B"),
    ],
)
def test_bars(current: int, total: int | None, columns: int, text: str) -> None:
    assert bar(current, total, columns) == text


def plain() -> tuple[PlainBuild, io.StringIO, Clock]:
    out, clock = io.StringIO(), Clock()
    return PlainBuild(out, clock=clock), out, clock


def test_plain_build_log() -> None:
    sink, out, clock = plain()
    with sink:
        sink(VertexStarted("s:1", "[internal] load build definition from Dockerfile"))
        sink(VertexProgress("s:1", "transferring dockerfile:", 100, done=True))
        sink(VertexDone("s:1"))
        sink(VertexCached("s:2", "[1/2] FROM debian"))
        sink(VertexStarted("s:3", "[2/2] RUN make"))
        clock.now += 0.123
        sink(VertexLog("s:3", "stdout", b"hel"))
        sink(VertexLog("s:3", "stdout", b"lo\r\nwor"))
        clock.now += 0.2
        sink(VertexDone("s:3"))
    assert out.getvalue() == (
        "#1 [internal] load build definition from Dockerfile\n"
        "#1 transferring dockerfile: 100B done\n"
        "#1 DONE 0.0s\n\n"
        "#2 [1/2] FROM debian\n#2 CACHED\n\n"
        "#3 [2/2] RUN make\n#3 0.123 hello\n#3 0.323 wor\n#3 DONE 0.3s\n"
    )


def test_a_line_that_was_overwritten_is_shown_as_it_ended() -> None:
    # threat 32: other control characters stay spelled out
    sink, out, _clock = plain()
    with sink:
        sink(VertexStarted("a", "[2/2] RUN apt"))
        sink(VertexLog("a", "stdout", b"(Reading ... 5%\r(Reading ... 10%\r"))
        sink(VertexLog("a", "stdout", b"(Reading ... 15%\x1b[K\r\r\nnext\r"))
        sink(VertexLog("a", "stdout", b"\nlast 1%\rlast 2%\r"))
        sink(VertexDone("a"))
    assert out.getvalue() == (
        "#1 [2/2] RUN apt\n#1 0.000 (Reading ... 15%\\x1b[K\n#1 0.000 next\n#1 0.000 last 2%\n#1 DONE 0.0s\n"
    )


def test_a_bar_without_an_end_is_one_line_and_costs_no_memory() -> None:
    sink, out, _clock = plain()
    with sink:
        sink(VertexStarted("a", "[2/2] RUN curl"))
        for number in range(3_000):
            sink(VertexLog("a", "stderr", b"%6d" % number + b"#" * 60 + b"\r"))
        assert sum(len(rest) for rest in sink.state.vertices["a"].partial.values()) < 100
        sink(VertexDone("a"))
    assert out.getvalue() == f"#1 [2/2] RUN curl\n#1 0.000   2999{'#' * 60}\n#1 DONE 0.0s\n"


def test_the_plain_log_is_whole_and_the_report_of_a_failure_has_its_end() -> None:
    sink, out, clock = plain()
    lines = [f"line {number} {'x' * 90}" for number in range(20_000)]
    data = "".join(line + "\n" for line in lines).encode()
    assert len(data) > 1 << 20
    with sink:
        sink(VertexStarted("a", "[2/2] RUN noise"))
        clock.now += 12.5
        for start in range(0, len(data), 4_096):
            sink(VertexLog("a", "stdout", data[start : start + 4_096]))
        sink(VertexDone("a", error="exit code: 1"))
    shown, report = out.getvalue().split("#1 ERROR: exit code: 1\n")
    assert shown.splitlines()[1:] == [f"#1 12.50 {line}" for line in lines]
    assert report == "------\n > [2/2] RUN noise:\n" + "".join(f"12.50 {line}\n" for line in lines[-10:]) + "------\n"


def test_parts_of_a_step_show_size_and_time_as_buildkit_does() -> None:
    sink, out, clock = plain()
    with sink:
        sink(VertexStarted("a", "[internal] load build context"))
        sink(VertexProgress("a", "transferring context:", 0))
        clock.now += 1
        sink(VertexProgress("a", "transferring context:", 1_500))
        clock.now += 1
        sink(VertexProgress("a", "transferring context:", 2_500))  # too soon
        clock.now += 4.2
        sink(VertexProgress("a", "transferring context:", 195_084))
        clock.now += 1
        sink(VertexProgress("a", "transferring context:", 12_345_678, done=True))
        sink(VertexProgress("a", "sha256:1", 1, 100))
        sink(VertexProgress("a", "sha256:1", 4, 100))  # too little
        sink(VertexProgress("a", "sha256:1", 9, 100))
        sink(VertexDone("a"))
    assert out.getvalue() == (
        "#1 [internal] load build context\n"
        "#1 transferring context: 1.50kB 1.0s\n"
        "#1 transferring context: 195.08kB 6.2s\n"
        "#1 transferring context: 12.35MB 7.2s done\n"
        "#1 sha256:1 1B / 100B\n"
        "#1 sha256:1 9B / 100B\n"
        "#1 DONE 7.2s\n"
    )


def test_interleaved_vertices_take_turns() -> None:
    sink, out, clock = plain()
    with sink:
        sink(VertexStarted("a", "[a 1/1] RUN a"))
        sink(VertexStarted("b", "[b 1/1] RUN b"))
        sink(VertexLog("b", "stdout", b"b1\n"))
        sink(VertexLog("a", "stdout", b"a1\n"))
        clock.now += 2  # a has had its time: the next word of b takes the log
        sink(VertexLog("b", "stdout", b"b2\n"))
        sink(VertexDone("a"))
        sink(VertexDone("b"))
    assert out.getvalue() == (
        "#1 [a 1/1] RUN a\n#1 0.000 a1\n#1 ...\n\n"
        "#2 [b 1/1] RUN b\n#2 0.000 b1\n#2 2.000 b2\n#2 DONE 2.0s\n\n"
        "#1 [a 1/1] RUN a\n#1 DONE 2.0s\n"
    )


def test_a_failure_repeats_the_tail_of_its_log_and_warnings_come_last() -> None:
    sink, out, _clock = plain()
    with sink:
        sink(VertexStarted("a", "[2/2] RUN false"))
        sink(VertexLog("a", "stderr", b"boom\x1b[2J\n"))
        sink(VertexDone("a", 1.5, error='process "/bin/sh -c false" did not complete successfully: exit code: 1'))
        sink(VertexStarted("b", "[b] RUN x"))
        sink(VertexDone("b", canceled=True))
        sink(BuildWarning("use key=value", "LegacyKeyValueFormat", "Dockerfile", 3))
    assert out.getvalue() == (
        "#1 [2/2] RUN false\n#1 0.000 boom\\x1b[2J\n"
        '#1 ERROR: process "/bin/sh -c false" did not complete successfully: exit code: 1\n\n'
        "#2 [b] RUN x\n#2 CANCELED\n"
        "------\n > [2/2] RUN false:\n0.000 boom\\x1b[2J\n------\n"
        "\n 1 warning found:\n - LegacyKeyValueFormat: use key=value (line 3)\n"
    )


def test_the_live_view_is_redrawn_in_place() -> None:
    out, clock = io.StringIO(), Clock()
    with LiveBuild(out, lambda: (41, 24), clock=clock, ticking=False) as sink:
        sink(VertexCached("a", "[1/2] FROM debian"))
        sink(VertexStarted("b", "[2/2] RUN make"))
        sink(VertexLog("b", "stdout", b"compiling\n"))
        clock.now += 1.2
        sink.draw()
        first = out.getvalue()
        sink(VertexDone("b"))
    assert first == (
        "\x1b[?25l\x1b[0J"
        "[+] Building 1.2s (1/2)\n"
        " => CACHED [1/2] FROM debian        0.0s\n"
        " => [2/2] RUN make                  1.2s\n"
        " => => # compiling\n"
    )
    assert out.getvalue().removeprefix(first) == (
        "\x1b[4A\r\x1b[0J"
        "[+] Building 1.2s (2/2) FINISHED\n"
        " => CACHED [1/2] FROM debian        0.0s\n"
        " => [2/2] RUN make                  1.2s\n"
        "\x1b[?25h"
    )


def test_the_live_view_fits_a_low_terminal() -> None:
    out = io.StringIO()
    with LiveBuild(out, lambda: (40, 5), clock=Clock(), ticking=False) as sink:
        for number in range(20):
            sink(VertexStarted(str(number), f"step {number}"))
        sink.draw()
        assert out.getvalue().count("\n") == 4
        assert "step 19" in out.getvalue()


def test_the_ticker_stops_with_the_build() -> None:
    out = io.StringIO()
    with LiveBuild(out, lambda: (40, 24)) as sink:
        sink(VertexStarted("a", "x"))
    assert "build-progress" not in {thread.name for thread in threading.enumerate()}
    assert out.getvalue().endswith("\x1b[?25h")


def test_modes(ctx: Context) -> None:
    assert type(build_progress(ctx, ctx.stderr)) is PlainBuild
    assert type(build_progress(ctx, ctx.stderr, quiet=True)) is BuildRenderer
    with pytest.raises(CliError, match="invalid progress mode fancy"):
        build_progress(ctx, ctx.stderr, mode="fancy")
    with pytest.raises(CliError, match="not a terminal"):
        build_progress(ctx, ctx.stderr, mode="tty")
