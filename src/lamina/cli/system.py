"""`lamina system df|info|prune|fsck` (C37, C38, C40, S44, S45)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lamina.cli.command import NO_ARGUMENTS, command
from lamina.cli.failures import CliError
from lamina.cli.flags import Options, flag
from lamina.cli.format.help import INSPECT_HELP, LIST_HELP
from lamina.cli.images import deleted_images, reclaimed
from lamina.cli.output import confirm, show, show_whole
from lamina.cli.values import BOOL, FILTER
from lamina.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamina.cli.context import Context
    from lamina.engine.system import DiskUsage


# --- df --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DfOptions(Options):
    """Flags of `lamina system df`."""

    disk: bool = flag("disk", kind=BOOL, help="Account for the whole disk: layer blobs and unfinished transfers too")
    format: str = flag("format", help=LIST_HELP)
    verbose: bool = flag("verbose", "v", kind=BOOL, help="Show detailed information on space usage")


class UsageRow(NamedTuple):
    """One line of the summary; `size` None stands for a row whose percentage means nothing."""

    type: str
    total: int
    active: int
    size: int
    reclaimable: int
    percent: bool = True


@command(DfOptions, usage="[OPTIONS]", arity=NO_ARGUMENTS)
def df(ctx: Context, options: DfOptions) -> None:
    """Prints what takes how much."""
    usage = ctx.engine.system.df()
    if options.verbose:
        from lamina.cli.df import details

        if options.format and options.format not in {"table", "json"}:
            raise CliError("the verbose option with a template is not supported: use --format json")
        show(ctx, details(usage, ctx.engine.clock().timestamp(), as_json=options.format == "json"))
        return
    rows = usage_rows(usage)
    if options.disk:
        rows += blob_rows(usage)
    show(ctx, _usage_formatter().render(rows, options.format))
    if options.disk and options.format in {"", "table"}:
        from lamina.cli.format.units import human_size

        show(ctx, f"\nDisk usage: {human_size(usage.disk)}\n")


def usage_rows(usage: DiskUsage) -> list[UsageRow]:
    """Docker's four rows."""
    store = usage.store
    volumes = usage.volumes
    idle = [volume for volume in volumes if not volume.links]
    return [
        UsageRow("Images", store.images.total, store.images.active, store.images.size, store.images.reclaimable),
        UsageRow(
            "Containers",
            store.containers.total,
            usage.running,
            store.containers.size,
            sum(each.size.own for each in usage.containers if each.size and not each.record.state.running),
        ),
        UsageRow(
            "Local Volumes",
            len(volumes),
            len(volumes) - len(idle),
            sum(volume.size for volume in volumes),
            sum(volume.size for volume in idle),
        ),
        UsageRow(
            "Build Cache",
            len(usage.cache),
            store.cache.active,
            store.cache.size,
            store.cache.reclaimable,
            percent=False,
        ),
    ]


def blob_rows(usage: DiskUsage) -> list[UsageRow]:
    """What Docker leaves out, so that the sizes account for the whole disk (A1)."""
    store = usage.store
    return [
        UsageRow("Layer Blobs", store.blobs.total, store.blobs.active, store.blobs.size, store.blobs.reclaimable),
        UsageRow("Transfers", 1 if store.partials else 0, 0, store.partials, store.partials),
    ]


def _usage_formatter() -> Any:
    from lamina.cli.format.formatter import Formatter, columns
    from lamina.cli.format.units import human_size

    def free(row: UsageRow) -> str:
        # Docker cuts the percentage, it does not round.
        percent = f" ({row.reclaimable * 100 // row.size}%)" if row.percent and row.size > 0 else ""
        return human_size(row.reclaimable) + percent

    found = columns(
        Type=("TYPE", lambda row: row.type),
        TotalCount=("TOTAL", lambda row: str(row.total)),
        Active=("ACTIVE", lambda row: str(row.active)),
        Size=("SIZE", lambda row: human_size(row.size)),
        Reclaimable=("RECLAIMABLE", free),
    )
    default = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
    return Formatter("*formatter.diskUsageContext", found, default=default)


# --- info ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoOptions(Options):
    """Flags of `lamina system info`."""

    format: str = flag("format", "f", help=INSPECT_HELP)


@command(InfoOptions, usage="[OPTIONS]", arity=NO_ARGUMENTS)
def info(ctx: Context, options: InfoOptions) -> None:
    """Prints facts about machine and engine."""
    from lamina import __version__

    facts = ctx.engine.system.info()
    client = {
        "Debug": ctx.debug,
        "Version": __version__,
        "Context": "default",
        "Plugins": [],
        "Warnings": None,
    }
    if not options.format:
        show(ctx, _blocks(facts, client))
        for warning in facts["Warnings"]:
            ctx.stderr.write(f"{warning}\n")
        return
    from lamina.cli.format.gojson import marshal

    found = {**facts, "ClientInfo": client}
    if options.format == "json":
        show(ctx, marshal(found) + "\n")
        return
    from lamina.cli.format.gotemplate.template import parse
    from lamina.cli.format.gotemplate.values import Struct

    show_whole(ctx, parse(options.format), Struct("system.dockerInfo", found))


_ROWS: tuple[tuple[str, str | Callable[[dict[str, Any]], str]], ...] = (
    ("Containers", "Containers"),
    (" Running", "ContainersRunning"),
    (" Paused", "ContainersPaused"),
    (" Stopped", "ContainersStopped"),
    ("Images", "Images"),
    ("Server Version", "ServerVersion"),
    ("Storage Driver", "Driver"),
    (" Backing Filesystem", lambda facts: facts["DriverStatus"][0][1]),
    ("Logging Driver", "LoggingDriver"),
    ("Cgroup Driver", "CgroupDriver"),
    ("Cgroup Version", "CgroupVersion"),
    ("Runtimes", lambda facts: " ".join(facts["Runtimes"])),
    ("Default Runtime", "DefaultRuntime"),
    ("Init Binary", "InitBinary"),
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
    ("Total Memory", "MemTotal"),
    ("Name", "Name"),
    ("ID", "ID"),
    ("Docker Root Dir", "DockerRootDir"),
    ("HTTP Proxy", "HttpProxy"),
    ("HTTPS Proxy", "HttpsProxy"),
    ("No Proxy", "NoProxy"),
    ("Live Restore Enabled", "LiveRestoreEnabled"),
)
_OPTIONAL = frozenset({"HTTP Proxy", "HTTPS Proxy", "No Proxy", "Init Binary", "Default Runtime"})


def _blocks(facts: dict[str, Any], client: dict[str, Any]) -> str:
    from lamina.cli.format.units import bytes_size

    lines = [
        "Client:",
        f" Version:    {client['Version']}",
        f" Context:    {client['Context']}",
        f" Debug Mode: {str(client['Debug']).lower()}",
        "",
        "Server:",
    ]
    for label, source in _ROWS:
        value: Any = facts[source] if isinstance(source, str) else source(facts)
        if label in _OPTIONAL and not value:
            continue
        if label == "Total Memory":
            value = bytes_size(value)
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        lines.append(f" {label}: {shown}".rstrip())
    return "\n".join(lines) + "\n"


# --- prune -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOptions(Options):
    """Flags of `lamina system prune`."""

    all: bool = flag("all", "a", kind=BOOL, help="Remove all unused images not just dangling ones")
    filter: tuple[tuple[str, str], ...] = flag(
        "filter", kind=FILTER, help='Provide filter values (e.g. "label=<key>=<value>")'
    )
    force: bool = flag("force", "f", kind=BOOL, help="Do not prompt for confirmation")
    volumes: bool = flag("volumes", kind=BOOL, help="Prune anonymous volumes")


@command(PruneOptions, usage="[OPTIONS]", arity=NO_ARGUMENTS)
def prune(ctx: Context, options: PruneOptions) -> int:
    """Removes what nothing uses, once that is confirmed."""
    if options.volumes and any(key == "until" for key, _ in options.filter):
        raise CliError('ERROR: The "until" filter is not supported with "--volumes"')
    if not options.force and not confirm(ctx, _warning(options)):
        return 0
    done = ctx.engine.system.prune(options.filter, all=options.all, volumes=options.volumes)
    show(ctx, _section("Deleted Containers:", done.containers))
    show(ctx, _section("Deleted Networks:", done.networks))
    show(ctx, _section("Deleted Volumes:", done.volumes))
    show(ctx, deleted_images(done.images.removed))
    show(ctx, cache_objects(done.cache.removed))
    show(ctx, reclaimed(done.bytes))
    return 0


def _warning(options: PruneOptions) -> str:
    things = ["all stopped containers", "all networks not used by at least one container"]
    if options.volumes:
        things.append("all anonymous volumes not used by at least one container")
    things.append(
        "all images without at least one container associated to them" if options.all else "all dangling images"
    )
    things.append("all build cache" if options.all else "unused build cache")
    text = "WARNING! This will remove:\n" + "".join(f"  - {thing}\n" for thing in things) + "\n"
    if options.filter:
        text += "  Items to be pruned will be filtered with:\n"
        text += "".join(f"  - {key}={value}\n" for key, value in sorted(options.filter)) + "\n"
    return text + "Are you sure you want to continue?"


def _section(title: str, names: Sequence[str]) -> str:
    return f"{title}\n" + "\n".join(names) + "\n\n" if names else ""


def cache_objects(ids: Sequence[str]) -> str:
    """The records of the build cache that a prune removed; "" for none."""
    return _section("Deleted build cache objects:", ids)


# --- fsck ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckOptions(Options):
    """Flags of `lamina system fsck`."""

    fast: bool = flag("fast", kind=BOOL, help="Compare sizes only, do not read the content")
    quiet: bool = flag("quiet", "q", kind=BOOL, help="Print only what is wrong")
    repair: bool = flag("repair", kind=BOOL, help="Set damaged content aside and mend the index")


@command(
    FsckOptions,
    usage="[OPTIONS]",
    arity=NO_ARGUMENTS,
    description="Check the store and report or repair damage.\n"
    "Exits 0 when nothing is wrong, or all of it was put right, and 1 otherwise.",
)
def fsck(ctx: Context, options: FsckOptions) -> int:
    """Examines the store."""
    from lamina.cli.format.units import human_size

    report = ctx.engine.system.fsck(repair=options.repair, content=not options.fast)
    for finding in report.findings:
        show(ctx, f"{finding}\n")
    if not options.quiet:
        left = sum(not finding.repaired for finding in report.findings)
        state = "clean" if not report.findings else f"{len(report.findings)} found, {left} left"
        show(
            ctx,
            f"{report.blobs} blobs ({human_size(report.bytes)} read), {report.snapshots} snapshots: {state}\n",
        )
    if report.clean:
        return 0
    if not options.repair:
        ctx.stderr.write("Run 'lamina system fsck --repair' to mend what can be mended\n")
    return 1
