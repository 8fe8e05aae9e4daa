"""The client's side of attach: terminal, detach keys, input, output, window size, signals (C13, C15, S21, S22).

conmon's attach socket carries packets: towards us the first byte tells the stream (2 stdout, 3 stderr), from us there
is input only, and its end is said by shutting down our half.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal

from lamina.errors import Invalid

if TYPE_CHECKING:
    import socket
    from types import FrameType

DEFAULT_DETACH_KEYS: Final = "ctrl-p,ctrl-q"
# conmon reads a packet into 32 KiB, and what does not fit is lost.
_PIECE: Final = 8192
_PACKET: Final = 1 << 16
_CONTROL: Final = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}
_NOT_FORWARDED: Final = frozenset(
    {
        signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH,
        signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT, signal.SIGSEGV, signal.SIGBUS,
        signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS, signal.SIGPROF,
        signal.SIGVTALRM, signal.SIGALRM,
    }
)  # fmt: skip

Ending = Literal["ended", "detached"]


class InvalidDetachKeys(Invalid):
    """Not a sequence of keys.

    Attributes:
        value: as the user wrote it.
    """

    def __init__(self, value: str) -> None:
        super().__init__(f"Invalid detach keys ({value}) provided")
        self.value = value


def parse_detach_keys(value: str) -> bytes:
    """`ctrl-p,ctrl-q`, `a,b`, `ctrl-@,z` as the bytes that a terminal sends; "" means no detaching.

    Raises:
        InvalidDetachKeys: Docker would not take it either.
    """
    if not value:
        return b""
    keys = bytearray()
    for word in value.split(","):
        if len(word) == 1 and word.isascii():
            keys += word.encode()
        elif word.startswith("ctrl-") and len(word) == 6:
            letter = word[5]
            if "a" <= letter <= "z":
                keys.append(ord(letter) - 96)
            elif letter in _CONTROL:
                keys.append(_CONTROL[letter])
            else:
                raise InvalidDetachKeys(value)
        else:
            raise InvalidDetachKeys(value)
    return bytes(keys)


class DetachKeys:
    """Looks for the detach sequence in typed input; a beginning that leads nowhere is passed on."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Takes input as it comes.

        Returns:
            What to pass on, and whether the sequence is complete; nothing after it is passed on.
        """
        if not self._keys:
            return data, False
        out = bytearray()
        for number in data:
            if number == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    self._matched = 0
                    return bytes(out), True
                continue
            out += self._keys[: self._matched]
            self._matched = 0
            if number == self._keys[0]:
                self._matched = 1
                if len(self._keys) == 1:
                    self._matched = 0
                    return bytes(out), True
            else:
                out.append(number)
        return bytes(out), False


def window_size(fd: int) -> tuple[int, int] | None:
    """Rows and columns of a terminal, or None when `fd` is none."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return None
    return (size.lines, size.columns) if size.lines and size.columns else None


@contextmanager
def raw_terminal(fd: int) -> Iterator[None]:
    """The terminal hands over every key as it is typed, and gets its old manners back afterwards."""
    if not os.isatty(fd):
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def following_window(fd: int, resize: Callable[[int, int], None]) -> Iterator[None]:
    """Tells `resize` the terminal's size now and whenever it changes. Main thread only."""

    def tell(_signal: int = 0, _frame: FrameType | None = None) -> None:
        size = window_size(fd)
        if size is not None:
            with suppress(OSError):
                resize(*size)

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        tell()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


@contextmanager
def forwarding_signals(send: Callable[[int], None], numbers: Sequence[int] = ()) -> Iterator[None]:
    """Passes the signals that this process gets on to the container (`--sig-proxy`). Main thread only."""
    chosen = numbers or [number for number in signal.valid_signals() if number not in _NOT_FORWARDED]
    before = {}
    for number in chosen:
        with suppress(OSError, ValueError):
            before[number] = signal.signal(number, lambda got, _frame: send(got))
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def pump(
    connection: socket.socket,
    *,
    stdin: int | None,
    stdout: int | None,
    stderr: int | None,
    detach_keys: bytes = b"",
    stop: int | None = None,
) -> Ending:
    """Carries input and output until the container ends or the user detaches; closes nothing but the socket's half.

    Args:
        connection: from `Supervisor.start` or `attach`.
        stdin: descriptor to read input from, or None.
        stdout: descriptor for the container's standard output (all output of a terminal), or None to drop it.
        stderr: descriptor for its standard error, or None to drop it.
        detach_keys: from `parse_detach_keys`; looked for in the input.
        stop: a descriptor that ends it, as if detached, when it becomes readable.

    Returns:
        `ended`, or `detached` with the container still running.
    """
    keys = DetachKeys(detach_keys)
    outputs = {2: stdout, 3: stderr}
    pending = b""
    input_ended = stdin is None
    connection.setblocking(False)
    while True:
        poll = select.poll()
        # Reading goes on while input waits: a container that echoes all it reads would block for ever otherwise.
        poll.register(connection, select.POLLIN | (select.POLLOUT if pending else 0))
        if stdin is not None and not input_ended and not pending:
            poll.register(stdin, select.POLLIN)
        if stop is not None:
            poll.register(stop, select.POLLIN)
        ready = dict(poll.poll())
        if stop is not None and stop in ready:
            return "detached"
        events = ready.get(connection.fileno(), 0)
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and not _receive(connection, outputs):
            return "ended"
        if events & select.POLLOUT:
            pending = _send(connection, pending)
        if stdin is not None and not input_ended and stdin in ready:
            data = _read(stdin)
            if data:
                data, detached = keys.feed(data)
                pending = _send(connection, data)
                if detached:
                    return "detached"
            else:
                input_ended = True
        if input_ended and stdin is not None and not pending:
            import socket

            stdin = None
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)


def _receive(connection: socket.socket, outputs: dict[int, int | None]) -> bool:
    """Passes on what is there; False at the end."""
    while True:
        try:
            packet = connection.recv(_PACKET)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if not packet:
            return False
        target = outputs.get(packet[0])
        if target is not None:
            _write_all(target, packet[1:])


def _send(connection: socket.socket, data: bytes) -> bytes:
    """Sends what the socket takes; returns the rest."""
    while data:
        try:
            sent = connection.send(data[:_PIECE])
        except BlockingIOError:
            return data
        except OSError:
            return b""  # the container's input is gone; its end shows on the other half
        data = data[sent:]
    return b""


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _PIECE)
    except BlockingIOError:
        return b""
    except OSError:
        return b""


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
