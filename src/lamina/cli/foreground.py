"""A container, or a process in one, in the foreground: its streams are ours until it ends or we part (S21, S22)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, TextIO

from lamina.cli.failures import DAEMON_PREFIX, CliError
from lamina.runtime import attach
from lamina.runtime.oci import RuntimeCallFailed

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from lamina.cli.context import Context


def descriptor(stream: TextIO) -> int | None:
    """The stream's descriptor, or None for one in memory or closed."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


def check_terminal(ctx: Context, *, stdin: bool, tty: bool) -> None:
    """Refuses a terminal in the container where the input is none, in docker's words.

    Raises:
        CliError: see above.
    """
    if stdin and tty and not ctx.is_tty(ctx.stdin):
        raise CliError("the input device is not a TTY")


def detach_keys(ctx: Context, given: str, *, named: bool) -> bytes:
    """`--detach-keys`, else `detachKeys` of config.json, else ctrl-p,ctrl-q.

    Args:
        ctx: where config.json is looked for.
        given: the flag's value.
        named: whether the flag was given.

    Raises:
        InvalidDetachKeys: not a sequence of keys.
    """
    if named:
        return attach.parse_detach_keys(given)
    import os

    if os.path.exists(os.path.join(ctx.config_dir, "config.json")):
        from lamina.cli.dockerconfig import load

        configured = load(ctx).get("detachKeys")
        if isinstance(configured, str) and configured:
            return attach.parse_detach_keys(configured)
    return attach.parse_detach_keys(attach.DEFAULT_DETACH_KEYS)


def window(ctx: Context) -> tuple[int, int] | None:
    """Rows and columns of the terminal that the user looks at."""
    for stream in (ctx.stdout, ctx.stdin):
        fd = descriptor(stream)
        size = attach.window_size(fd) if fd is not None else None
        if size is not None:
            return size
    return None


def converse(
    ctx: Context,
    connection: socket.socket,
    *,
    tty: bool,
    stdin: bool,
    stdout: bool = True,
    stderr: bool = True,
    keys: bytes,
    resize: Callable[[int, int], None],
    signal: Callable[[int], None] | None,
) -> attach.Ending:
    """Carries input and output until the other side ends or the user detaches.

    Args:
        ctx: whose streams.
        connection: the attach socket; closed at the end.
        tty: the other side has a terminal.
        stdin: pass on input.
        stdout: show standard output.
        stderr: show standard error.
        keys: that detach.
        resize: tells the other side's terminal its size.
        signal: passes a signal on; None leaves signals alone.
    """
    ctx.stdout.flush()
    ctx.stderr.flush()
    source = descriptor(ctx.stdin) if stdin else None
    with ExitStack() as stack:
        stack.enter_context(connection)
        if tty:
            seen = next((fd for fd in map(descriptor, (ctx.stdout, ctx.stdin)) if fd is not None), None)
            if seen is not None:
                stack.enter_context(attach.following_window(seen, resize))
            if source is not None:
                stack.enter_context(attach.raw_terminal(source))
        elif signal is not None:
            stack.enter_context(attach.forwarding_signals(signal))
        return attach.pump(
            connection,
            stdin=source,
            stdout=descriptor(ctx.stdout) if stdout else None,
            stderr=descriptor(ctx.stderr) if stderr else None,
            detach_keys=keys if tty else b"",
        )


def status_by_words(message: str) -> int:
    """The status of a container that did not start: docker's client looks for these words in what the daemon says."""
    if "executable file not found" in message or "no such file or directory" in message:
        return 127
    return 126 if "permission denied" in message or "is a directory" in message else 125


def start_failure(error: RuntimeCallFailed) -> CliError:
    """A command that could not be started, as docker reports it: status 127, 126 or 125."""
    said = error.message.removesuffix(": unknown")
    return CliError(
        f"{DAEMON_PREFIX}failed to create task for container: failed to create shim task: {said}: unknown",
        status=error.exit_code,
    )
