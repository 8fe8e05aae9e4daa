"""`lamina ps|inspect|port|top|stats|diff|commit|container prune` (C16, C18, C21, C24-C26, C30)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.cli.command import ANY, NO_ARGUMENTS, at_least, between, command, exactly
from lamina.cli.failures import CliError
from lamina.cli.flags import Options, flag
from lamina.cli.format.help import INSPECT_HELP, LIST_HELP
from lamina.cli.output import confirm, show
from lamina.cli.values import BOOL, FILTER, INT, LIST
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.cli.context import Context

# --- ps --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LsOptions(Options):
    """Flags of `lamina ps`."""

    all: bool = flag("all", "a", kind=BOOL, help="Show all containers (default shows just running)")
    filter: tuple[tuple[str, str], ...] = flag(
        "filter", "f", kind=FILTER.named("filter"), help="Filter output based on conditions provided"
    )
    format: str = flag("format", help=LIST_HELP)
    last: int = flag("last", "n", kind=INT, default=-1, help="Show n last created containers (includes all states)")
    latest: bool = flag("latest", "l", kind=BOOL, help="Show the latest created container (includes all states)")
    no_trunc: bool = flag("no-trunc", kind=BOOL, help="Don't truncate output")
    quiet: bool = flag("quiet", "q", kind=BOOL, help="Only display container IDs")
    size: bool = flag("size", "s", kind=BOOL, help="Display total file sizes")


@command(LsOptions, usage="[OPTIONS]", arity=NO_ARGUMENTS)
def ls(ctx: Context, options: LsOptions) -> None:
    """Lists containers, newest first."""
    from lamina.cli.container_list import container_formatter
    from lamina.engine.listing import select

    last = 1 if options.latest and options.last < 0 else options.last
    rows = select(
        ctx.engine,
        options.filter,
        all=options.all,
        last=last,
        size=options.size or ".Size" in options.format,
    )
    now = ctx.engine.clock().timestamp()
    formatter = container_formatter(trunc=not options.no_trunc, size=options.size, now=now)
    show(ctx, formatter.render(rows, options.format, quiet=options.quiet))


# --- diff, commit ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOptions(Options):
    """No flags."""


@command(NoOptions, usage="CONTAINER", arity=exactly(1))
def diff(ctx: Context, options: NoOptions) -> None:
    """Lists what a container changed."""
    from lamina.engine.commits import Commits

    if not options.args[0]:
        raise CliError("Container name cannot be empty")
    commits: Commits = ctx.engine.commits
    show(ctx, "".join(f"{change}\n" for change in commits.diff(options.args[0])))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOptions(Options):
    """Flags of `lamina commit`."""

    author: str = flag("author", "a", help='Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")')
    change: tuple[str, ...] = flag("change", "c", kind=LIST, help="Apply Dockerfile instruction to the created image")
    message: str = flag("message", "m", help="Commit message")
    pause: bool = flag("pause", "p", kind=BOOL, default=True, help="Pause container during commit")


@command(CommitOptions, usage="[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", arity=between(1, 2))
def commit(ctx: Context, options: CommitOptions) -> None:
    """Makes an image of a container and prints its id."""
    from lamina.engine.commits import CommitOptions as Wanted
    from lamina.errors import Invalid
    from lamina.spec.reference import Reference

    reference = None
    if len(options.args) > 1 and options.args[1]:
        try:
            reference = Reference.parse(options.args[1])
        except Invalid as error:
            raise CliError(error.message) from None
        if reference.digest is not None:
            raise CliError("refusing to create a tag with a digest reference")
    wanted = Wanted(reference, options.author, options.message, options.change, options.pause)
    ctx.stdout.write(f"{ctx.engine.commits.commit(options.args[0], wanted)}\n")


# --- inspect, port, top, prune ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectOptions(Options):
    """Flags of `lamina container inspect`."""

    format: str = flag("format", "f", help=INSPECT_HELP)
    size: bool = flag("size", "s", kind=BOOL, help="Display total file sizes")


@command(InspectOptions, usage="[OPTIONS] CONTAINER [CONTAINER...]", arity=at_least(1))
def inspect(ctx: Context, options: InspectOptions) -> int:
    """Prints what is known of containers."""
    from lamina.cli.inspect import inspect_each

    containers = ctx.engine.containers
    return inspect_each(ctx, options.args, options.format, lambda name: containers.inspect(name, size=options.size))


@command(NoOptions, usage="CONTAINER [PRIVATE_PORT[/PROTO]]", arity=between(1, 2))
def port(ctx: Context, options: NoOptions) -> None:
    """Lists published ports, or where one of them is."""
    from lamina.engine.listing import ports_of
    from lamina.runtime.config import ContainerOptions

    record = ctx.engine.containers.supervisor.find(options.args[0])
    published = [each for each in ports_of(record, ContainerOptions.from_json(record.options)) if each.host_port]
    if len(options.args) == 1:
        lines = [f"{one.container_port}/{one.protocol} -> {one.host_ip}:{one.host_port}" for one in published]
        show(ctx, "".join(f"{line}\n" for line in sorted(lines)))
        return
    number, _, protocol = options.args[1].partition("/")
    protocol = protocol or "tcp"
    if not number.isdigit() or int(number) > 65535:
        reason = "value out of range" if number.isdigit() else "invalid syntax"
        raise CliError(f'Error: invalid port ({number}): strconv.ParseUint: parsing "{number}": {reason}')
    lines = [
        f"{one.host_ip}:{one.host_port}\n"
        for one in published
        if (one.container_port, one.protocol) == (int(number), protocol.lower())
    ]
    if not lines:
        raise CliError(f"Error: No public port '{options.args[1]}' published for {options.args[0]}")
    show(ctx, "".join(lines))


@command(NoOptions, usage="CONTAINER [ps OPTIONS]", arity=at_least(1), interspersed=False)
def top(ctx: Context, options: NoOptions) -> None:
    """Lists the processes of a container."""
    from lamina.cli.format.table import align

    titles, rows = ctx.engine.containers.processes(options.args[0], options.args[1:])
    # Docker's columns are wider here than in its lists.
    show(ctx, align("".join("\t".join(row) + "\n" for row in (titles, *rows)), min_width=20))


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOptions(Options):
    """Flags of `lamina container prune`."""

    filter: tuple[tuple[str, str], ...] = flag(
        "filter", kind=FILTER.named("filter"), help='Provide filter values (e.g. "until=<timestamp>")'
    )
    force: bool = flag("force", "f", kind=BOOL, help="Do not prompt for confirmation")


@command(PruneOptions, usage="[OPTIONS]", arity=NO_ARGUMENTS)
def prune(ctx: Context, options: PruneOptions) -> int:
    """Removes containers that do not run, once that is confirmed."""
    from lamina.cli.images import reclaimed

    question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"
    if not options.force and not confirm(ctx, question):
        return 0
    pruned = ctx.engine.containers.prune(options.filter)
    if pruned.ids:
        show(ctx, "Deleted Containers:\n" + "".join(f"{each}\n" for each in pruned.ids) + "\n")
    show(ctx, reclaimed(pruned.bytes))
    return 0


# --- stats -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsOptions(Options):
    """Flags of `lamina stats`."""

    all: bool = flag("all", "a", kind=BOOL, help="Show all containers (default shows just running)")
    format: str = flag("format", help=LIST_HELP)
    no_stream: bool = flag("no-stream", kind=BOOL, help="Disable streaming stats and only pull the first result")
    no_trunc: bool = flag("no-trunc", kind=BOOL, help="Do not truncate output")


@command(StatsOptions, usage="[OPTIONS] [CONTAINER...]", arity=ANY)
def stats(ctx: Context, options: StatsOptions) -> None:
    """Shows what containers use, once or every second."""
    from lamina.cli.stats import show_stats

    show_stats(
        ctx, options.args, all=options.all, format=options.format, once=options.no_stream, trunc=not options.no_trunc
    )
