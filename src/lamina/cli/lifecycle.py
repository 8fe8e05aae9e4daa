"""`lamina start|stop|restart|kill|pause|unpause|rename|rm|wait|update|system revive` (C22, C25, C27-C29, C31, C32)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.cli.command import NO_ARGUMENTS, at_least, command, exactly
from lamina.cli.failures import DAEMON_PREFIX, CliError
from lamina.cli.flags import Options, flag
from lamina.cli.output import show
from lamina.cli.values import BOOL, BYTES, CPUS, INT, SWAP
from lamina.errors import LaminaError, NotFound
from lamina.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lamina.cli.context import Context


_AT_ONCE = 50


def each(ctx: Context, names: Iterable[str], act: Callable[[str], object], *, quiet: type | None = None) -> int:
    """Does something to each of several objects, goes on after a failure, and exits 1 then.

    Args:
        ctx: whose streams.
        names: as the user typed them; each is repeated when done.
        act: what to do.
        quiet: failures of this kind are reported and yet no failure.
    """
    status = 0
    for name in names:
        try:
            act(name)
        except LaminaError as error:
            from lamina.cli.main import describe

            ctx.stdout.flush()
            ctx.stderr.write(describe(error)[0] + "\n")
            if quiet is None or not isinstance(error, quiet):
                status = 1
        else:
            show(ctx, f"{name}\n")
    return status


def together(names: Sequence[str], act: Callable[[str], object]) -> Callable[[str], object]:
    """Starts doing something to all of several objects at once; what it returns waits for one of them.

    Args:
        names: of the objects.
        act: what to do; called from several threads, once for each name.
    """
    if len(set(names)) < 2:
        return act
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(min(_AT_ONCE, len(names)))
    work = {name: pool.submit(act, name) for name in dict.fromkeys(names)}
    pool.shutdown(wait=False)
    return lambda name: work[name].result()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOptions(Options):
    """No flags."""


# --- start -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions(Options):
    """Flags of `lamina start`."""

    attach: bool = flag("attach", "a", kind=BOOL, help="Attach STDOUT/STDERR and forward signals")
    detach_keys: str = flag("detach-keys", help="Override the key sequence for detaching a container")
    interactive: bool = flag("interactive", "i", kind=BOOL, help="Attach container's STDIN")


@command(StartOptions, usage="[OPTIONS] CONTAINER [CONTAINER...]", arity=at_least(1))
def start(ctx: Context, options: StartOptions) -> int:
    """Starts containers; one of them in the foreground with `-a` or `-i`."""
    if options.attach or options.interactive:
        if len(options.args) > 1:
            raise CliError("you cannot start and attach multiple containers at once")
        return _start_attached(ctx, options)
    containers = ctx.engine.containers

    def act(name: str) -> None:
        from lamina.cli.foreground import start_failure
        from lamina.runtime.oci import RuntimeCallFailed

        try:
            containers.supervisor.start(name)
        except RuntimeCallFailed as error:
            raise start_failure(error) from None

    if each(ctx, options.args, act):
        raise CliError("Error: failed to start containers: " + ", ".join(_not_running(ctx, options.args)))
    return 0


def _not_running(ctx: Context, names: Iterable[str]) -> list[str]:
    found = []
    for name in names:
        try:
            running = ctx.engine.containers.supervisor.find(name).state.running
        except LaminaError:
            running = False
        if not running:
            found.append(name)
    return found or list(names)


def _start_attached(ctx: Context, options: StartOptions) -> int:
    from lamina.cli.foreground import converse, detach_keys, start_failure, window
    from lamina.cli.run import signal_sender
    from lamina.runtime.config import ContainerOptions
    from lamina.runtime.oci import RuntimeCallFailed

    supervisor = ctx.engine.containers.supervisor
    record = supervisor.find(options.args[0])
    asked = ContainerOptions.from_json(record.options)
    keys = detach_keys(ctx, options.detach_keys, named="detach-keys" in options.given)
    try:
        _, connection = supervisor.start(record.id, attach=True, console_size=window(ctx))
    except RuntimeCallFailed as error:
        raise start_failure(error) from None
    ending = converse(
        ctx,
        connection,
        tty=asked.tty,
        stdin=options.interactive and asked.stdin_open,
        keys=keys,
        resize=lambda rows, columns: supervisor.resize(record.id, rows, columns),
        signal=signal_sender(ctx, record.id),
    )
    return 0 if ending == "detached" else supervisor.wait(record.id) or 0


# --- stop, restart, kill ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StopOptions(Options):
    """Flags of `lamina stop` and `lamina restart`."""

    signal: str = flag("signal", "s", help="Signal to send to the container")
    timeout: int = flag("timeout", "t", kind=INT, help="Seconds to wait before killing the container", also=("time",))

    @property
    def seconds(self) -> int | None:
        """The timeout, None when it was not given."""
        return self.timeout if "timeout" in self.given else None


@command(
    Options,
    usage="",
    arity=NO_ARGUMENTS,
    description="Start the containers that a reboot ended, by their restart policies.\n"
    "No daemon does that by itself: have it run once after each boot, e.g. by a systemd unit.",
)
def revive(ctx: Context, _options: Options) -> int:
    """Starts what should run and does not; prints the ids."""
    from lamina.runtime import reviving

    failures: list[str] = []
    for container_id in reviving.revive(ctx.engine.containers.supervisor, failures.append):
        show(ctx, f"{container_id}\n")
    for failure in failures:
        ctx.stderr.write(f"{failure}\n")
    return 1 if failures else 0


@command(StopOptions, usage="[OPTIONS] CONTAINER [CONTAINER...]", arity=at_least(1))
def stop(ctx: Context, options: StopOptions) -> int:
    """Stops containers: all at once, so that their grace periods run side by side."""
    supervisor = ctx.engine.containers.supervisor
    return each(
        ctx,
        options.args,
        together(options.args, lambda name: supervisor.stop(name, signal=options.signal, seconds=options.seconds)),
    )


@command(StopOptions, usage="[OPTIONS] CONTAINER [CONTAINER...]", arity=at_least(1))
def restart(ctx: Context, options: StopOptions) -> int:
    """Stops containers and starts them again."""
    containers = ctx.engine.containers
    return each(
        ctx,
        options.args,
        together(options.args, lambda name: containers.restart(name, options.signal, options.seconds)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KillOptions(Options):
    """Flags of `lamina kill`."""

    signal: str = flag("signal", "s", help="Signal to send to the container")


@command(KillOptions, usage="[OPTIONS] CONTAINER [CONTAINER...]", arity=at_least(1))
def kill(ctx: Context, options: KillOptions) -> int:
    """Sends containers a signal, SIGKILL by default."""
    containers = ctx.engine.containers
    return each(ctx, options.args, lambda name: containers.kill(name, options.signal or "KILL"))


@command(NoOptions, usage="CONTAINER [CONTAINER...]", arity=at_least(1))
def pause(ctx: Context, options: NoOptions) -> int:
    """Freezes containers."""
    return each(ctx, options.args, ctx.engine.containers.supervisor.pause)


@command(NoOptions, usage="CONTAINER [CONTAINER...]", arity=at_least(1))
def unpause(ctx: Context, options: NoOptions) -> int:
    """Thaws containers."""
    return each(ctx, options.args, ctx.engine.containers.supervisor.unpause)


@command(NoOptions, usage="CONTAINER NEW_NAME", arity=exactly(2))
def rename(ctx: Context, options: NoOptions) -> None:
    """Gives a container another name; silent, as docker is."""
    old, new = (name.strip() for name in options.args)
    if not old or not new:
        raise CliError("Error: Neither old nor new names may be empty")
    try:
        ctx.engine.containers.rename(old, new)
    except LaminaError as error:
        from lamina.engine.containers import InvalidName
        from lamina.runtime.state import NameTaken

        refused = isinstance(error, InvalidName | NameTaken)
        reason = f"Error when allocating new name: {error.message}" if refused else error.message
        raise CliError(f"{DAEMON_PREFIX}{reason}\nError: failed to rename container named {old}") from None


# --- rm, wait, update ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RmOptions(Options):
    """Flags of `lamina rm`."""

    force: bool = flag("force", "f", kind=BOOL, help="Force the removal of a running container (uses SIGKILL)")
    link: bool = flag("link", "l", kind=BOOL, help="Remove the specified link")
    volumes: bool = flag("volumes", "v", kind=BOOL, help="Remove anonymous volumes associated with the container")


@command(RmOptions, usage="[OPTIONS] CONTAINER [CONTAINER...]", arity=at_least(1))
def rm(ctx: Context, options: RmOptions) -> int:
    """Removes containers; with `-f` one that is not there is no failure."""
    if options.link:
        raise CliError("links are not supported; leave --link out")
    supervisor = ctx.engine.containers.supervisor
    return each(
        ctx,
        options.args,
        lambda name: supervisor.remove(name, force=options.force, volumes=options.volumes),
        quiet=NotFound if options.force else None,
    )


@command(NoOptions, usage="CONTAINER [CONTAINER...]", arity=at_least(1))
def wait(ctx: Context, options: NoOptions) -> int:
    """Waits for containers to end and prints their exit codes."""
    from lamina.cli.main import describe

    status = 0
    for name in options.args:
        try:
            code = ctx.engine.containers.supervisor.wait(name)
        except LaminaError as error:
            ctx.stderr.write(describe(error)[0] + "\n")
            status = 1
        else:
            ctx.stdout.write(f"{code}\n")
            ctx.stdout.flush()
    return status


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOptions(Options):
    """Flags of `lamina update`."""

    cpu_shares: int = flag("cpu-shares", "c", kind=INT, help="CPU shares (relative weight)")
    cpus: int = flag("cpus", kind=CPUS, help="Number of CPUs")
    cpuset_cpus: str = flag("cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)")
    cpuset_mems: str = flag("cpuset-mems", help="MEMs in which to allow execution (0-3, 0,1)")
    memory: int = flag("memory", "m", kind=BYTES, help="Memory limit")
    memory_reservation: int = flag("memory-reservation", kind=BYTES, help="Memory soft limit")
    memory_swap: int = flag(
        "memory-swap", kind=SWAP, help="Swap limit equal to memory plus swap: -1 to enable unlimited swap"
    )
    pids_limit: int = flag("pids-limit", kind=INT, help="Tune container pids limit (set -1 for unlimited)")
    restart: str = flag("restart", help="Restart policy to apply when a container exits")


@command(UpdateOptions, usage="[OPTIONS] CONTAINER [CONTAINER...]", arity=at_least(1))
def update(ctx: Context, options: UpdateOptions) -> int:
    """Changes limits and restart policies."""
    from lamina.cli.container_options import restart_policy

    if not options.given:
        raise CliError("you must provide one or more flags when using this command")
    changes: dict[str, object] = {}
    for name in options.given - {"restart"}:
        field = name.replace("-", "_")
        changes["nano_cpus" if name == "cpus" else field] = getattr(options, field)
    if "restart" in options.given:
        changes["restart"] = restart_policy(options.restart)
    containers = ctx.engine.containers
    return each(ctx, options.args, lambda name: containers.update(name, changes))
