"""`lamina ps|inspect|port|top|stats|diff|commit|container prune` (C16, C18, C21, C24-C26, C30)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.cli.command import NO_ARGUMENTS, command
from lamina.cli.flags import Options, flag
from lamina.cli.format.help import LIST_HELP
from lamina.cli.output import show
from lamina.cli.values import BOOL, FILTER, INT
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
