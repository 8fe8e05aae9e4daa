"""`lamina run` and `lamina create` (C13, C14, S19-S22)."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lamina.cli.command import at_least, command
from lamina.cli.container_flags import ContainerFlags
from lamina.cli.container_options import container_options
from lamina.cli.failures import DAEMON_PREFIX, CliError, UsageError
from lamina.cli.flags import flag
from lamina.cli.foreground import check_terminal, converse, detach_keys, start_failure, status_by_words, window
from lamina.cli.references import reference_or_id
from lamina.cli.values import BOOL
from lamina.engine.containers import NewContainer
from lamina.errors import Invalid, LaminaError
from lamina.runtime.oci import RuntimeCallFailed
from lamina.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamina.cli.context import Context
    from lamina.progress import Progress, ProgressSink
    from lamina.runtime.config import ContainerOptions
    from lamina.runtime.state import ContainerRecord
    from lamina.spec.reference import Reference

_POLICIES = ("always", "missing", "never")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptions(ContainerFlags):
    """Flags of `lamina create`."""

    pull: str = flag("pull", default="missing", help='Pull image before creating ("always", "|missing", "never")')


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(ContainerFlags):
    """Flags of `lamina run`."""

    detach: bool = flag("detach", "d", kind=BOOL, help="Run container in background and print container ID")
    detach_keys: str = flag("detach-keys", help="Override the key sequence for detaching a container")
    pull: str = flag("pull", default="missing", help='Pull image before running ("always", "missing", "never")')
    sig_proxy: bool = flag("sig-proxy", kind=BOOL, default=True, help="Proxy received signals to the process")


@command(
    CreateOptions,
    usage="[OPTIONS] IMAGE [COMMAND] [ARG...]",
    arity=at_least(1),
    interspersed=False,
    shows_help_flag=True,
)
def create(ctx: Context, options: CreateOptions) -> None:
    """Makes a container and prints its id."""
    streams = options.attach or (("stdin", "stdout", "stderr") if options.interactive else ("stdout", "stderr"))
    try:
        _check_pull(options)
        chosen = replace(container_options(ctx, options), stdin_once=_closes_input(options, tuple(streams)))
    except CliError as error:
        if error.message.startswith(DAEMON_PREFIX):
            raise
        # What docker's client refuses; the rest comes without the program's name and with status 1.
        raise UsageError(
            f"lamina: {error.message}\n\nRun 'lamina create --help' for more information", status=125, hint=error.hint
        ) from None
    record = _create(ctx, options, chosen, tuple(streams))
    ctx.stdout.write(f"{record.id}\n")


@command(
    RunOptions,
    usage="[OPTIONS] IMAGE [COMMAND] [ARG...]",
    arity=at_least(1),
    interspersed=False,
    engine_failure=125,
    names_itself=True,
    shows_help_flag=True,
)
def run(ctx: Context, options: RunOptions) -> int:
    """Makes a container and starts it; in the foreground its exit code is ours."""
    streams = tuple(options.attach)
    if options.detach:
        if streams:
            return _refuse(ctx, "conflicting options: cannot specify both --attach and --detach")
    elif not streams:
        streams = ("stdin", "stdout", "stderr") if options.interactive else ("stdout", "stderr")
    stdin = "stdin" in streams
    try:
        check_terminal(ctx, stdin=stdin, tty=options.tty)
    except CliError as error:
        return _refuse(ctx, error.message)
    try:
        _check_pull(options)
        chosen = replace(container_options(ctx, options), stdin_once=_closes_input(options, streams))
        keys = detach_keys(ctx, options.detach_keys, named="detach-keys" in options.given)
        record = _create(ctx, options, chosen, streams)
    except CliError as error:
        if error.status == 1:
            error.status = 125
        raise
    if not streams:
        ctx.stdout.write(f"{record.id}\n")
        ctx.stdout.flush()
    supervisor = ctx.engine.containers.supervisor
    try:
        _, connection = supervisor.start(record.id, attach=bool(streams), console_size=window(ctx))
    except LaminaError as error:
        if options.rm:
            with suppress(LaminaError):
                supervisor.remove(record.id, force=True, volumes=True)
        if isinstance(error, RuntimeCallFailed):
            raise start_failure(error) from None
        if (status := status_by_words(error.message)) != 125:
            raise CliError(DAEMON_PREFIX + error.message, status=status, hint=error.hint) from None
        raise
    if connection is None:
        return 0
    ending = converse(
        ctx,
        connection,
        tty=options.tty,
        stdin=stdin,
        stdout="stdout" in streams,
        stderr="stderr" in streams,
        keys=keys,
        resize=lambda rows, columns: supervisor.resize(record.id, rows, columns),
        signal=signal_sender(ctx, record.id) if options.sig_proxy else None,
    )
    code: int = 0 if ending == "detached" else ctx.engine.containers.settle(record.id)
    return code


def _closes_input(flags: ContainerFlags, streams: tuple[str, ...]) -> bool:
    """Whether the end of our input is the end of the container's; a terminal's has none, and survives detaching."""
    return flags.interactive and "stdin" in streams and not flags.tty


def signal_sender(ctx: Context, container_id: str) -> Callable[[int], None]:
    """Passes signals on to a container; one that ended meanwhile does not mind."""

    def send(number: int) -> None:
        with suppress(LaminaError):
            ctx.engine.containers.supervisor.kill(container_id, str(number))

    return send


def _refuse(ctx: Context, message: str) -> int:
    """What docker says without its name in front."""
    ctx.stderr.write(message + "\n")
    return 1


def _check_pull(flags: CreateOptions | RunOptions) -> None:
    if flags.pull not in _POLICIES:
        raise CliError(f'invalid pull option: \'{flags.pull}\': must be one of "always", "missing" or "never"')


def _create(
    ctx: Context, flags: CreateOptions | RunOptions, options: ContainerOptions, streams: tuple[str, ...]
) -> ContainerRecord:
    cidfile = ctx.path(flags.cidfile) if flags.cidfile else ""
    if cidfile and os.path.lexists(cidfile):
        raise CliError(
            f"container ID file found, make sure the other container isn't running or delete {flags.cidfile}"
        )
    platform = None
    if flags.platform:
        from lamina.cli.images import platform_of

        try:
            platform = platform_of(flags.platform)
        except Invalid as error:
            raise CliError(f"error parsing specified platform: {error.message}: invalid argument") from None
    for warning in _warnings(flags):
        ctx.stderr.write(f"WARNING: {warning}\n")
    containers = ctx.engine.containers
    containers.warn = lambda message: _warn(ctx, message)
    reference_or_id(flags.args[0])
    record: ContainerRecord = containers.create(
        NewContainer(flags.args[0], options, flags.name, platform, flags.pull, streams),  # type: ignore[arg-type]
        progress=_Late(ctx, quiet=flags.quiet),
        missing=lambda reference: _missing(ctx, reference, quiet=flags.quiet),
    )
    if cidfile:
        with open(cidfile, "x", encoding="ascii") as file:
            file.write(record.id)
    return record


def _missing(ctx: Context, reference: Reference, *, quiet: bool) -> None:
    if quiet:
        return
    from lamina.cli.terminal import printable

    ctx.stderr.write(f"Unable to find image '{printable(reference.familiar)}' locally\n")
    ctx.stderr.flush()


class _Late:
    """Progress on standard error, whose painter is loaded with the first event: most runs pull nothing."""

    def __init__(self, ctx: Context, *, quiet: bool) -> None:
        self._ctx, self._quiet = ctx, quiet
        self._sink: ProgressSink | None = None

    def __call__(self, event: Progress) -> None:
        if self._sink is None:
            from lamina.cli.progress import transfer_progress

            self._sink = transfer_progress(self._ctx, self._ctx.stderr, quiet=self._quiet)
        self._sink(event)


def _warnings(flags: ContainerFlags) -> list[str]:
    found = []
    if flags.network == ("host",) and (flags.publish or flags.publish_all):
        found.append("Published ports are discarded when using host network mode")
    if flags.oom_kill_disable and not flags.memory:
        found.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system"
            " running out of resources."
        )
    return found


def _warn(ctx: Context, message: str) -> None:
    from lamina.cli.terminal import printable

    ctx.stderr.write(f"WARNING: {printable(message)}\n")
    ctx.stderr.flush()
