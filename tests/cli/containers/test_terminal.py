"""Containers on a real pseudo-terminal: raw mode, size, detach keys, attach (S21, S22)."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytestmark = [pytest.mark.root, pytest.mark.runtime]


class Terminal:
    """The user's side of a program on a pseudo-terminal."""

    def __init__(self, master: int, child: subprocess.Popen[bytes]) -> None:
        self._master, self.child = master, child
        self.seen = b""

    def type(self, data: bytes) -> None:
        os.write(self._master, data)

    def until(self, wanted: bytes) -> bytes:
        """Reads until `wanted` appears."""
        while wanted not in self.seen:
            ready, _, _ = select.select([self._master], [], [], 30)
            assert ready, f"{wanted!r} did not appear in {self.seen!r}"
            try:
                self.seen += os.read(self._master, 1 << 16)
            except OSError:
                raise AssertionError(f"{wanted!r} did not appear in {self.seen!r}") from None
        before, _, self.seen = self.seen.partition(wanted)
        return before

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.child.send_signal(signal.SIGWINCH)


@contextmanager
def on_terminal(program, *arguments: str) -> Iterator[Terminal]:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(slave)
    child = subprocess.Popen(
        [*program.argv, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=program.env,
        start_new_session=True,
    )
    terminal = Terminal(master, child)
    try:
        yield terminal
        assert termios.tcgetattr(slave) == before  # the user's terminal is as it was
    finally:
        os.close(slave)
        if child.poll() is None:
            child.kill()
            child.wait()
        os.close(master)


def finish(terminal: Terminal) -> int:
    """The exit status, read without waiting for the end of a terminal that we hold open too."""
    return terminal.child.wait(30)


def test_an_interactive_shell(lamina):
    with on_terminal(lamina, "run", "--rm", "-it", "--hostname", "box", "busybox", "sh") as terminal:
        terminal.until(b"# ")
        terminal.type(b"tty; stty size; echo $TERM\n")
        shown = terminal.until(b"xterm\r\n")
        assert b"/dev/pts/0" in shown or b"/dev/console" in shown
        assert b"24 80" in shown
        terminal.resize(40, 100)
        terminal.type(b"until stty size | grep 100; do :; done\n")
        terminal.until(b"\n40 100")
        terminal.type(b"exit 6\n")
        assert finish(terminal) == 6


def test_interrupt_goes_to_the_container(lamina):
    with on_terminal(
        lamina,
        "run",
        "--rm",
        "-it",
        "busybox",
        "sh",
        "-c",
        "trap 'echo caught; exit 4' INT; echo on; while :; do sleep 0.05; done",
    ) as terminal:
        terminal.until(b"on\r\n")
        terminal.type(b"\x03")
        terminal.until(b"caught")
        assert finish(terminal) == 4


def test_detach_and_attach_again(lamina):  # S22
    with on_terminal(lamina, "run", "-it", "--name", "kept", "busybox", "cat") as terminal:
        terminal.type(b"one\r")
        terminal.until(b"one\r\none")
        terminal.type(b"\x10\x11")
        assert finish(terminal) == 0
    assert lamina.out("ps", "--format", "{{.Names}}") == "kept"
    with on_terminal(lamina, "attach", "--detach-keys", "ctrl-x", "kept") as terminal:
        terminal.type(b"two\r")
        terminal.until(b"two\r\ntwo")
        terminal.type(b"\x18")
        terminal.until(b"read escape sequence")
        assert finish(terminal) == 1  # of run and start it is 0
    with on_terminal(lamina, "attach", "kept") as terminal:
        terminal.type(b"three\r")
        terminal.until(b"three\r\nthree")
        terminal.type(b"\x04")
        assert finish(terminal) == 0
    assert lamina.out("ps", "-q") == ""


def test_run_takes_other_keys_to_detach(lamina):  # C13 --detach-keys
    with on_terminal(lamina, "run", "-it", "--detach-keys", "ctrl-x,q", "--name", "kept", "busybox", "cat") as terminal:
        terminal.type(b"one\r")
        terminal.until(b"one\r\none")
        terminal.type(b"\x18q")
        assert finish(terminal) == 0
    assert lamina.out("ps", "--format", "{{.Names}}") == "kept"


def test_exec_on_a_terminal(lamina):
    lamina.out("run", "-d", "--name", "host", "busybox", "sleep", "60")
    with on_terminal(lamina, "exec", "-it", "host", "sh") as terminal:
        terminal.until(b"# ")
        terminal.type(b"stty size; exit 3\n")
        terminal.until(b"24 80")
        assert finish(terminal) == 3
    with on_terminal(lamina, "exec", "-it", "--detach-keys", "a,b", "host", "sh") as terminal:
        terminal.until(b"# ")
        terminal.type(b"ab")
        terminal.until(b"read escape sequence")
        assert finish(terminal) == 1
