"""A person at a terminal: a shell on a pseudo-terminal, typed into, and what its screen shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping
from contextlib import suppress

COLUMNS, ROWS = 200, 60
SHELL = ("bash", "--norc", "--noprofile", "--noediting", "-i")
_PROMPT = re.compile(r"<shell (\d+)> $")
#: A shell inside a container: Debian's root prompt with the short id as host name (S21), or busybox ash. A question.
_INSIDE = re.compile(r"(?:root@[0-9a-f]{12}:[^#\s]*|^/ )# $|^(?:Username|Password): $")
_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\][^\x07]*\x07|\x1b[()][A-Z0-9]|\x1b[=>78]|([\r\n\b\x07])")


class Screen:
    """The lines that a terminal of unlimited height shows after all that was written to it.

    Knows what programs use to draw over their own lines (ECMA-48): cursor up, down, left, right and to a column,
    erase in line and below, carriage return and backspace. Colours and modes change nothing that can be read.
    """

    def __init__(self) -> None:
        self.lines = [""]
        self.row = 0
        self.column = 0

    def write(self, text: str) -> None:
        """Takes output as it comes from the terminal."""
        end = 0
        for found in _CONTROL.finditer(text):
            self._put(text[end : found.start()])
            end = found.end()
            if found[3]:
                self._key(found[3])
            elif found[2]:
                self._sequence(found[1], found[2])
        self._put(text[end:])

    def _put(self, text: str) -> None:
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + text + line[self.column + len(text) :]
        self.column += len(text)

    def _key(self, key: str) -> None:
        if key == "\r":
            self.column = 0
        elif key == "\b":
            self.column = max(0, self.column - 1)
        elif key == "\n":
            self._move(self.row + 1)

    def _move(self, row: int) -> None:
        self.row = max(0, row)
        self.lines += [""] * (self.row + 1 - len(self.lines))

    def _sequence(self, parameters: str, final: str) -> None:
        count = int(parameters) if parameters.isdecimal() else 0
        if final in "AF":
            self._move(self.row - (count or 1))
        elif final in "BE":
            self._move(self.row + (count or 1))
        elif final == "C":
            self.column += count or 1
        elif final == "D":
            self.column = max(0, self.column - (count or 1))
        elif final == "G":
            self.column = (count or 1) - 1
        elif final == "K":
            line = self.lines[self.row]
            self.lines[self.row] = {0: line[: self.column], 1: line[self.column :].rjust(len(line)), 2: ""}[count]
        elif final == "J" and count in (0, 2):
            self.lines[self.row] = self.lines[self.row][: self.column]
            del self.lines[self.row + 1 :]
        if final in "EF":
            self.column = 0


class Silence(TimeoutError):
    """No prompt came back in time."""


class Terminal:
    """An interactive bash on a pseudo-terminal.

    Args:
        cwd: where the shell starts.
        env: its whole environment.
        patience: seconds without any prompt after which `type` gives up.
    """

    def __init__(self, cwd: str, env: Mapping[str, str], *, patience: float = 150) -> None:
        self.patience = patience
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
                os.chdir(cwd)
                os.execvpe(SHELL[0], SHELL, {"TERM": "xterm", **env, "PS1": "<shell $?> ", "PS2": ""})  # noqa: S606 - it is the shell
            finally:
                os._exit(127)
        self._until_prompt()

    def type(self, keys: bytes, *, echo: str = "") -> tuple[list[str], int | None]:
        """Types, and waits for a prompt: the lines that appeared after the echo, and the status that the prompt told.

        The status is None when the prompt is one inside a container, or the question for a user name or a password.

        Raises:
            Silence: no prompt within the patience; the message shows what appeared.
        """
        with suppress(BlockingIOError):
            os.write(self._master, keys)
        return self._until_prompt(echo, after_a_line=keys.endswith(b"\r"))

    def _until_prompt(self, echo: str = "", *, after_a_line: bool = False) -> tuple[list[str], int | None]:
        raw = b""
        deadline = time.monotonic() + self.patience
        while True:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            screen = Screen()
            if not ready:
                screen.write(raw.decode(errors="replace"))
                raise Silence(f"no prompt after {self.patience:g} s; the screen shows:\n" + "\n".join(screen.lines))
            try:
                raw += os.read(self._master, 1 << 16)
            except OSError as error:  # the shell ended
                screen.write(raw.decode(errors="replace"))
                raise Silence("the shell ended; the screen shows:\n" + "\n".join(screen.lines)) from error
            # Not worth drawing everything when no prompt can be there. Some shells draw theirs anew when a key comes.
            if not any(sign in raw[-24:] for sign in (b"> ", b"# ", b": ")) or (after_a_line and b"\n" not in raw):
                continue
            screen.write(raw.decode(errors="replace"))
            last = screen.lines[screen.row]
            if found := _PROMPT.search(last):
                return self._shown(screen, found, echo), int(found[1])
            if found := _INSIDE.search(last):
                return self._shown(screen, found, echo), None

    @staticmethod
    def _shown(screen: Screen, prompt: re.Match[str], echo: str) -> list[str]:
        lines = screen.lines[: screen.row + 1]
        lines[-1] = lines[-1][: prompt.start()]
        inside = _INSIDE.search(lines[-1])
        if inside:  # the detach keys leave the container's prompt standing before the shell's
            lines[-1] = lines[-1][: inside.start()]
        if echo and lines and lines[0].rstrip().endswith(echo.strip()):
            del lines[0]
        while lines and not lines[-1].strip():
            lines.pop()
        return [line.rstrip() for line in lines]

    @property
    def cwd(self) -> str:
        """Where the shell is now."""
        return os.readlink(f"/proc/{self._pid}/cwd")

    def close(self) -> None:
        """Hangs up, as closing a terminal window does, and waits for the shell."""
        os.close(self._master)
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGHUP)
        os.waitpid(self._pid, 0)
