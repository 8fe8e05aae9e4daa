"""`lamina volume create|inspect|ls|prune|rm` (C42)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamina.cli.command import NO_ARGUMENTS, at_least, between, command
from lamina.cli.failures import CliError
from lamina.cli.flags import Options, flag
from lamina.cli.format.help import INSPECT_HELP, LIST_HELP
from lamina.cli.lifecycle import each
from lamina.cli.output import confirm, show
from lamina.cli.values import BOOL, FILTER, LIST, MAP
from lamina.errors import NotFound
from lamina.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamina.cli.context import Context
    from lamina.cli.format.formatter import Column


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptions(Options):
    """Flags of `lamina volume create`."""

    driver: str = flag("driver", "d", default="local", help="Specify volume driver name")
    label: tuple[str, ...] = flag("label", kind=LIST, help="Set metadata for a volume")
    opt: tuple[tuple[str, str], ...] = flag("opt", "o", kind=MAP, help="Set driver specific options")


@command(CreateOptions, usage="[OPTIONS] [VOLUME]", arity=between(0, 1))
def create(ctx: Context, options: CreateOptions) -> None:
    """Makes a volume and prints its name."""
    labels = dict(text.partition("=")[::2] for text in options.label)
    name = options.args[0] if options.args else ""
    volume = ctx.engine.volumes.create(name, driver=options.driver, labels=labels, options=dict(options.opt))
    show(ctx, f"{volume.name}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectOptions(Options):
    """Flags of `lamina volume inspect`."""

    format: str = flag("format", "f", help=INSPECT_HELP)


@command(InspectOptions, usage="[OPTIONS] VOLUME [VOLUME...]", arity=at_least(1))
def inspect(ctx: Context, options: InspectOptions) -> int:
    """Prints what is known of volumes."""
    from lamina.cli.inspect import inspect_each

    return inspect_each(ctx, options.args, options.format, ctx.engine.volumes.inspect)


@dataclass(frozen=True, slots=True, kw_only=True)
class LsOptions(Options):
    """Flags of `lamina volume ls`."""

    filter: tuple[tuple[str, str], ...] = flag(
        "filter", "f", kind=FILTER.named("filter"), help='Provide filter values (e.g. "dangling=true")'
    )
    format: str = flag("format", help=LIST_HELP)
    quiet: bool = flag("quiet", "q", kind=BOOL, help="Only display volume names")


@command(LsOptions, usage="[OPTIONS]", arity=NO_ARGUMENTS)
def ls(ctx: Context, options: LsOptions) -> None:
    """Lists volumes by name."""
    from lamina.cli.format.formatter import Formatter

    formatter = Formatter(
        "*formatter.volumeContext",
        volume_columns(lambda row: row),
        default="table {{.Driver}}\t{{.Name}}",
        quiet="{{.Name}}",
    )
    rows = ctx.engine.volumes.select(options.filter)
    show(ctx, formatter.render(rows, options.format, quiet=options.quiet))


def volume_columns(
    volume: Callable[[Any], Any],
    *,
    links: Callable[[Any], str] = lambda _row: "N/A",
    size: Callable[[Any], str] = lambda _row: "N/A",
) -> Sequence[Column[Any]]:
    """The placeholders of volume lists.

    Args:
        volume: the volume of a row.
        links: how many containers use it, where the rows know.
        size: its bytes, where the rows know.
    """
    from lamina.cli.format.formatter import Column, columns

    def labels(row: Any) -> str:
        return ",".join(f"{key}={value}" for key, value in sorted(volume(row).labels.items()))

    return (
        *columns(
            Name=("VOLUME NAME", lambda row: volume(row).name),
            Driver=("DRIVER", lambda _row: "local"),
            Scope=("SCOPE", lambda _row: "local"),
            Mountpoint=("MOUNTPOINT", lambda row: volume(row).path),
            Labels=("LABELS", labels),
            Links=("LINKS", links),
            Size=("SIZE", size),
            Group=("GROUP", lambda _row: "N/A"),
            Availability=("AVAILABILITY", lambda _row: "N/A"),
            Status=("STATUS", lambda _row: "N/A"),
        ),
        Column("Label", "", lambda row, key: volume(row).labels.get(key, ""), method=True),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RmOptions(Options):
    """Flags of `lamina volume rm`."""

    force: bool = flag("force", "f", kind=BOOL, help="Force the removal of one or more volumes")


@command(
    RmOptions,
    usage="[OPTIONS] VOLUME [VOLUME...]",
    arity=at_least(1),
    description="Remove one or more volumes. You cannot remove a volume that is in use by a container.",
)
def rm(ctx: Context, options: RmOptions) -> int:
    """Removes volumes."""
    return each(
        ctx,
        options.args,
        lambda name: ctx.engine.volumes.remove(name, force=options.force),
        quiet=NotFound if options.force else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOptions(Options):
    """Flags of `lamina volume prune`."""

    all: bool = flag("all", "a", kind=BOOL, help="Remove all unused volumes, not just anonymous ones")
    filter: tuple[tuple[str, str], ...] = flag(
        "filter", kind=FILTER.named("filter"), help='Provide filter values (e.g. "label=<label>")'
    )
    force: bool = flag("force", "f", kind=BOOL, help="Do not prompt for confirmation")


@command(PruneOptions, usage="[OPTIONS]", arity=NO_ARGUMENTS)
def prune(ctx: Context, options: PruneOptions) -> int:
    """Removes volumes that no container refers to, once that is confirmed."""
    from lamina.cli.images import reclaimed

    if options.all and any(key == "all" for key, _ in options.filter):
        raise CliError("conflicting options: cannot specify both --all and --filter all=1")
    which = "all local volumes" if options.all else "anonymous local volumes"
    question = (
        f"WARNING! This will remove {which} not used by at least one container.\nAre you sure you want to continue?"
    )
    if not options.force and not confirm(ctx, question):
        return 0
    pruned = ctx.engine.volumes.prune(options.filter, all=options.all)
    if pruned.names:
        show(ctx, "Deleted Volumes:\n" + "".join(f"{name}\n" for name in pruned.names) + "\n")
    show(ctx, reclaimed(pruned.bytes))
    return 0
