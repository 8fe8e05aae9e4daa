"""`lamina attach`, `lamina exec` and `lamina logs` (C15, C19, C23, S62)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.cli.command import at_least, command, exactly
from lamina.cli.failures import DAEMON_PREFIX, CliError
from lamina.cli.flags import Options, flag
from lamina.cli.values import BOOL, ENV, LIST
from lamina.values import dataclass

if TYPE_CHECKING:
    from datetime import datetime

    from lamina.cli.context import Context
    from lamina.runtime.oci import RuntimeCallFailed

_DETACHED = "read escape sequence"  # docker fails with it, except where it started the container itself

# --- attach ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachOptions(Options):
    """Flags of `lamina attach`."""

    detach_keys: str = flag("detach-keys", help="Override the key sequence for detaching a container")
    no_stdin: bool = flag("no-stdin", kind=BOOL, help="Do not attach STDIN")
    sig_proxy: bool = flag("sig-proxy", kind=BOOL, default=True, help="Proxy all received signals to the process")


@command(AttachOptions, usage="[OPTIONS] CONTAINER", arity=exactly(1))
def attach(ctx: Context, options: AttachOptions) -> int:
    """Joins a running container; the exit code is the container's."""
    from lamina.cli.foreground import check_terminal, converse, detach_keys
    from lamina.cli.run import signal_sender
    from lamina.runtime.config import ContainerOptions

    supervisor = ctx.engine.containers.supervisor
    record = supervisor.find(options.args[0])
    refused = {
        "paused": "You cannot attach to a paused container, unpause it first",
        "restarting": "You cannot attach to a restarting container, wait until it is running",
    }
    if record.state.status in refused:
        raise CliError(refused[record.state.status])
    if not record.state.running:
        raise CliError("You cannot attach to a stopped container, start it first")
    asked = ContainerOptions.from_json(record.options)
    stdin = asked.stdin_open and not options.no_stdin
    check_terminal(ctx, stdin=stdin, tty=asked.tty)
    keys = detach_keys(ctx, options.detach_keys, named="detach-keys" in options.given)
    ending = converse(
        ctx,
        supervisor.attach(record.id),
        tty=asked.tty,
        stdin=stdin,
        keys=keys,
        resize=lambda rows, columns: supervisor.resize(record.id, rows, columns),
        signal=signal_sender(ctx, record.id) if options.sig_proxy else None,
    )
    if ending == "detached":
        raise CliError(_DETACHED)
    return supervisor.wait(record.id) or 0


# --- exec ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecOptions(Options):
    """Flags of `lamina exec`."""

    detach: bool = flag("detach", "d", kind=BOOL, help="Detached mode: run command in the background")
    detach_keys: str = flag("detach-keys", help="Override the key sequence for detaching a container")
    env: tuple[str, ...] = flag("env", "e", kind=ENV, help="Set environment variables")
    env_file: tuple[str, ...] = flag("env-file", kind=LIST, help="Read in a file of environment variables")
    interactive: bool = flag("interactive", "i", kind=BOOL, help="Keep STDIN open even if not attached")
    privileged: bool = flag("privileged", kind=BOOL, help="Give extended privileges to the command")
    tty: bool = flag("tty", "t", kind=BOOL, help="Allocate a pseudo-TTY")
    user: str = flag("user", "u", help='Username or UID (format: "<name|uid>[:<group|gid>]")')
    workdir: str = flag("workdir", "w", help="Working directory inside the container")


@command(
    ExecOptions,
    usage="[OPTIONS] CONTAINER COMMAND [ARG...]",
    arity=at_least(2),
    description="Execute a command in a running container",
    interspersed=False,
)
def exec_(ctx: Context, options: ExecOptions) -> int:
    """Runs a further process in a container; in the foreground its exit code is ours."""
    from lamina.cli.container_options import variables
    from lamina.cli.foreground import check_terminal, converse, detach_keys, window
    from lamina.runtime.execs import ExecOptions as Wanted
    from lamina.runtime.oci import RuntimeCallFailed
    from lamina.runtime.users import NoSuchUser

    wanted = Wanted(
        options.args[1:],
        env=variables(ctx, options.env_file, options.env),
        user=options.user,
        workdir=options.workdir,
        tty=options.tty,
        stdin_open=options.interactive and not options.detach,
        privileged=options.privileged,
        console_size=window(ctx) if options.tty else None,
    )
    execs = ctx.engine.containers.execs
    if not options.detach:
        ctx.engine.containers.supervisor.find(options.args[0])  # docker complains of the container first
        check_terminal(ctx, stdin=options.interactive, tty=options.tty)
    keys = detach_keys(ctx, options.detach_keys, named="detach-keys" in options.given)
    try:
        started = execs.start(options.args[0], wanted, attach=not options.detach)
    except RuntimeCallFailed as error:
        if options.detach:
            raise CliError(f"{DAEMON_PREFIX}{exec_failure(error)}") from None
        # Over the attached stream, and so without docker's prefix.
        raise CliError(exec_failure(error), status=max(error.exit_code, 126)) from None
    except NoSuchUser as error:
        if options.detach:
            raise
        raise CliError(error.message, status=126) from None
    if started.connection is None:
        return 0
    ending = converse(
        ctx,
        started.connection,
        tty=options.tty,
        stdin=options.interactive,
        keys=keys,
        resize=lambda rows, columns: execs.resize(started, rows, columns),
        signal=None,
    )
    if ending == "detached":
        raise CliError(_DETACHED)
    code: int = execs.wait(started)
    return code


def exec_failure(error: RuntimeCallFailed) -> str:
    """Why a command could not be started in a container, in docker's words."""
    said = "exec failed: " + error.said.removeprefix("exec failed: ").removesuffix(": unknown")
    return f"OCI runtime exec failed: {said}: unknown"


# --- logs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsOptions(Options):
    """Flags of `lamina logs`."""

    details: bool = flag("details", kind=BOOL, help="Show extra details provided to logs")
    follow: bool = flag("follow", "f", kind=BOOL, help="Follow log output")
    since: str = flag(
        "since",
        help='Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
    )
    tail: str = flag("tail", "n", default="all", help="Number of lines to show from the end of the logs")
    timestamps: bool = flag("timestamps", "t", kind=BOOL, help="Show timestamps")
    until: str = flag(
        "until",
        help='Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
    )


@command(LogsOptions, usage="[OPTIONS] CONTAINER", arity=exactly(1))
def logs(ctx: Context, options: LogsOptions) -> None:
    """Prints what a container wrote, each stream to its own."""
    from lamina.runtime.config import ContainerOptions

    containers = ctx.engine.containers
    record = containers.supervisor.find(options.args[0])
    asked = ContainerOptions.from_json(record.options)
    entries = containers.logs(
        record,
        tail=_tail(options.tail),
        since=_moment(ctx, "since", options.since),
        until=_moment(ctx, "until", options.until),
        follow=options.follow,
    )
    out, err = ctx.stdout_bytes, ctx.stderr.buffer
    begins = {"stdout": True, "stderr": True}
    # Extras of `--log-opt labels=` would stand here; lamina's log has none, and docker prints the gap all the same.
    details = b" " if options.details else b""
    for entry in entries:
        target = err if entry.stream == "stderr" else out
        data = entry.data
        if begins[entry.stream]:
            # A line that came in pieces is stamped once.
            stamp = f"{entry.timestamp} ".encode() if options.timestamps else b""
            data = stamp + details + data
        begins[entry.stream] = entry.data.endswith(b"\n")
        if asked.tty and data.endswith(b"\n") and not data.endswith(b"\r\n"):
            data = data[:-1] + b"\r\n"
        target.write(data)
        target.flush()


def _tail(text: str) -> int | None:
    """The number of lines; anything but a number, and negative ones, mean all of them, as docker reads it."""
    try:
        number = int(text)
    except ValueError:
        return None
    return number if number >= 0 else None


def _moment(ctx: Context, name: str, text: str) -> datetime | None:
    if not text:
        return None
    from lamina.engine.moments import InvalidMoment, parse_moment

    try:
        return parse_moment(text, ctx.engine.clock())
    except InvalidMoment as error:
        raise CliError(f'invalid value for "{name}": {error.message}', hint=error.hint) from None
