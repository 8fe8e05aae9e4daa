"""The program: parse, run, and one edge where every error becomes a line and an exit status."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from lamina.cli.app import Invocation, resolve
from lamina.cli.context import Context
from lamina.cli.failures import BROKEN_PIPE_STATUS, DAEMON_PREFIX, EDGES, INTERRUPTED_STATUS, CliError, UsageError
from lamina.errors import Internal, LaminaError, kind_of


def entry() -> NoReturn:
    """The console script."""
    # Most objects of a short command live until its end; looking through them again and again is a tenth of its time.
    gc.set_threshold(100_000)
    ctx = Context.of_process()
    ctx.ending = True
    status = main(sys.argv[1:], ctx)
    try:
        sys.stdout.flush()
        if sys.stderr is not None:  # closed by whoever started us
            sys.stderr.flush()
    except OSError:
        # The reader went away after the last write; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    _end(status)


def _end(status: int) -> NoReturn:
    """Ends the process at once: taking the interpreter apart takes longer than many commands."""
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        sys.exit(status)  # waits for them
    import atexit

    atexit._run_exitfuncs()
    os._exit(status)


def main(arguments: Sequence[str], ctx: Context) -> int:
    """Runs one command line; never raises for what a user can cause.

    Args:
        arguments: without the program's name.
        ctx: the world it runs in.

    Returns:
        The exit status.
    """
    invocation: Invocation | None = None
    try:
        try:
            invocation = resolve(ctx, arguments)
            status = 0 if invocation is None else invocation.run(ctx)
        finally:
            ctx.close()
        ctx.stdout.flush()
        return status
    except BrokenPipeError:
        _silence(ctx)
        return BROKEN_PIPE_STATUS
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    except Exception as error:
        return _report(ctx, invocation, error)


def _silence(ctx: Context) -> None:
    """Points standard output at nothing, so that the interpreter's last flush stays quiet too."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), ctx.stdout.fileno())
    except (OSError, ValueError):
        pass


def _report(ctx: Context, invocation: Invocation | None, error: Exception) -> int:
    if ctx.debug and not isinstance(error, UsageError):
        import traceback

        traceback.print_exception(error, file=ctx.stderr)
    text, status = describe(error, invocation)
    try:
        ctx.stdout.flush()
        ctx.stderr.write(text + "\n")
        ctx.stderr.flush()
    except (OSError, ValueError):
        pass  # no one is listening; the status still tells
    return status


def describe(error: Exception, invocation: Invocation | None = None) -> tuple[str, int]:
    """The text for standard error and the exit status of an error."""
    from lamina.cli.format.gotemplate.errors import TemplateError
    from lamina.cli.terminal import printable

    if isinstance(error, UsageError):
        return printable(error.message, newlines=True).replace("\\x09", "\t"), error.status
    if isinstance(error, TemplateError):
        return printable(error.message), error.exit_status
    if isinstance(error, CliError):
        text, status = error.message, error.status
    elif isinstance(error, LaminaError):
        edge = EDGES[kind_of(error)]
        text = (DAEMON_PREFIX if edge.prefixed else "") + error.message
        status = edge.status
        if status == 1 and invocation is not None:
            status = invocation.command.engine_failure
    elif isinstance(error, OSError):
        text, status = _system_error(error), 1
    elif isinstance(error, RecursionError | MemoryError):
        text, status = f"{type(error).__name__}: the input needs more memory than there is", 1
    else:
        text = f"internal error: {type(error).__name__}: {error} (run with --debug for the traceback)"
        status = EDGES[Internal].status
    hint = error.hint if isinstance(error, LaminaError) else None
    text = printable(text, newlines=True)
    if invocation is not None and invocation.command.names_itself:
        text = f"lamina: {text}\n\nRun 'lamina {invocation.name} --help' for more information"
    if hint:
        text += f"\nHint: {printable(hint)}"
    return text, status


def _system_error(error: OSError) -> str:
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    if error.errno == errno.ENOSPC:
        reason += " (free some with 'lamina system prune')"
    named = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{named}: {reason}" if named else reason
