"""Reading back what conmon wrote (C23)."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lamina.runtime import logs


def line(second: int, stream: str, kind: str, text: str) -> str:
    return f"2026-01-02T03:04:{second:02d}.123456789+00:00 {stream} {kind} {text}\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "ctr.log"
    path.write_text(
        line(1, "stdout", "F", "one")
        + line(2, "stderr", "F", "two words")
        + line(3, "stdout", "P", "lo")
        + line(3, "stdout", "P", "ng")
        + line(3, "stdout", "F", "er")
        + line(4, "stdout", "F", "")
        + line(5, "stdout", "P", "prompt$ ")
    )
    return path


def text(path: Path, **options) -> bytes:
    return b"".join(entry.data for entry in logs.read(str(path), **options))


def test_lines_and_pieces(log):
    assert text(log) == b"one\ntwo words\nlonger\n\nprompt$ "
    assert [entry.stream for entry in logs.read(str(log))][:2] == ["stdout", "stderr"]
    assert next(logs.read(str(log))).timestamp == "2026-01-02T03:04:01.123456789Z"


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (0, b""),
        (1, b"prompt$ "),
        (2, b"\nprompt$ "),
        (3, b"longer\n\nprompt$ "),
        (4, b"two words\nlonger\n\nprompt$ "),
        (99, b"one\ntwo words\nlonger\n\nprompt$ "),
    ],
)
def test_tail_counts_lines_of_output(log, count, wanted):
    assert text(log, tail=count) == wanted


def test_tail_of_a_log_larger_than_a_block(tmp_path):
    path = tmp_path / "ctr.log"
    path.write_text("".join(line(number % 60, "stdout", "F", f"{number} " + "x" * 90) for number in range(5000)))
    got = text(path, tail=1500).splitlines()
    assert len(got) == 1500
    assert got[0].startswith(b"3500 ")


def test_spans_of_time(log):
    def at(second: int) -> datetime:
        return datetime(2026, 1, 2, 3, 4, second, tzinfo=UTC)

    assert text(log, since=at(4)) == b"\nprompt$ "
    assert text(log, until=at(3)) == b"one\ntwo words\n"
    assert text(log, since=at(2), until=at(3)) == b"two words\n"


def test_following_sees_the_end_and_a_new_file(log):
    running = True
    got: list[bytes] = []
    seen = threading.Event()

    def follow() -> None:
        for entry in logs.read(str(log), tail=0, follow=lambda: running):
            got.append(entry.data)
            seen.set()

    thread = threading.Thread(target=follow)
    thread.start()
    with log.open("a") as file:
        while not seen.wait(0.01):  # until the reader has found its place, lines may be behind it
            file.write(line(6, "stdout", "F", "more"))
            file.flush()
    seen.clear()
    fresh = log.with_name("new")
    fresh.write_text(line(7, "stdout", "F", "fresh"))
    fresh.rename(log)
    while got[-1] != b"fresh\n":
        assert seen.wait(30)
        seen.clear()
    running = False
    thread.join()


def test_torn_lines_and_no_log(tmp_path):
    path = tmp_path / "ctr.log"
    assert text(path) == b""
    path.write_text("garbage\n" + line(1, "stdout", "F", "ok") + "2026-01-02T03:04:05Z stdout F torn")
    assert text(path) == b"ok\n"
    assert logs.size(str(path)) > 0
