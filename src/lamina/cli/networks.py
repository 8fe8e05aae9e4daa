"""`lamina network ls|inspect` (C43)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.cli.command import NO_ARGUMENTS, at_least, command
from lamina.cli.flags import Options, flag
from lamina.cli.format.help import INSPECT_HELP, LIST_HELP
from lamina.cli.output import show
from lamina.cli.values import BOOL, FILTER
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.cli.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectOptions(Options):
    """Flags of `lamina network inspect`."""

    format: str = flag("format", "f", help=INSPECT_HELP)
    verbose: bool = flag("verbose", "v", kind=BOOL, help="Verbose output for diagnostics")


@command(InspectOptions, usage="[OPTIONS] NETWORK [NETWORK...]", arity=at_least(1))
def inspect(ctx: Context, options: InspectOptions) -> int:
    """Prints what is known of networks."""
    from lamina.cli.inspect import inspect_each

    return inspect_each(ctx, options.args, options.format, ctx.engine.networks.inspect)


@dataclass(frozen=True, slots=True, kw_only=True)
class LsOptions(Options):
    """Flags of `lamina network ls`."""

    filter: tuple[tuple[str, str], ...] = flag(
        "filter", "f", kind=FILTER.named("filter"), help='Provide filter values (e.g. "driver=bridge")'
    )
    format: str = flag("format", help=LIST_HELP)
    no_trunc: bool = flag("no-trunc", kind=BOOL, help="Do not truncate the output")
    quiet: bool = flag("quiet", "q", kind=BOOL, help="Only display network IDs")


@command(LsOptions, usage="[OPTIONS]", arity=NO_ARGUMENTS)
def ls(ctx: Context, options: LsOptions) -> None:
    """Lists networks by name."""
    from lamina.cli.format.formatter import Column, Formatter, columns
    from lamina.cli.format.units import short_id
    from lamina.cli.output import time_text
    from lamina.spec.timestamp import parse_rfc3339

    found = (
        *columns(
            ID=("NETWORK ID", lambda row: row.id if options.no_trunc else short_id(row.id)),
            Name=("NAME", lambda row: row.name),
            Driver=("DRIVER", lambda row: row.driver),
            Scope=("SCOPE", lambda _row: "local"),
            IPv6=("IPV6", lambda _row: "false"),
            IPv4=("IPV4", lambda _row: "true"),
            Internal=("INTERNAL", lambda row: str(row.internal).lower()),
            Labels=("LABELS", lambda _row: ""),
            CreatedAt=(
                "CREATED AT",
                lambda row: time_text(parse_rfc3339(row.created_at).timestamp()) if row.created_at else "",
            ),
        ),
        Column("Label", "", lambda _row, _key: "", method=True),
    )
    formatter = Formatter("*network.networkContext", found, default="table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}")
    rows = ctx.engine.networks.select(options.filter)
    show(ctx, formatter.render(rows, options.format, quiet=options.quiet))
