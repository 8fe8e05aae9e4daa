"""Commands with docker's own flags, to compare parser and help with the docker client."""

from __future__ import annotations

from lamina.cli.command import at_least, between, command, exactly
from lamina.cli.context import Context
from lamina.cli.flags import Options, flag
from lamina.cli.format.help import LIST_HELP
from lamina.cli.values import BOOL, BYTES, CPUS, DURATION, FILTER, INT, LIST, MAP, UINT16
from lamina.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions(Options):
    all_tags: bool = flag("all-tags", "a", kind=BOOL, help="Download all tagged images in the repository")
    disable_content_trust: bool = flag("disable-content-trust", kind=BOOL, default=True, help="Skip image verification")
    platform: str = flag("platform", help="Set platform if server is multi-platform capable")
    quiet: bool = flag("quiet", "q", kind=BOOL, help="Suppress verbose output")


@command(PullOptions, usage="[OPTIONS] NAME[:TAG|@DIGEST]", arity=exactly(1))
def pull(ctx: Context, options: PullOptions) -> None:
    ctx.stdout.write(f"{options}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class LsOptions(Options):
    all: bool = flag("all", "a", kind=BOOL, help="Show all images (default hides intermediate images)")
    digests: bool = flag("digests", kind=BOOL, help="Show digests")
    filter: tuple[tuple[str, str], ...] = flag(
        "filter", "f", kind=FILTER, help="Filter output based on conditions provided"
    )
    format: str = flag("format", help=LIST_HELP)
    no_trunc: bool = flag("no-trunc", kind=BOOL, help="Don't truncate output")
    quiet: bool = flag("quiet", "q", kind=BOOL, help="Only show image IDs")
    tree: bool = flag("tree", kind=BOOL, help="List multi-platform images as a tree (EXPERIMENTAL)")


@command(LsOptions, usage="[OPTIONS] [REPOSITORY[:TAG]]", arity=between(0, 1))
def ls(ctx: Context, options: LsOptions) -> None:
    ctx.stdout.write(f"{options}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(Options):
    annotation: tuple[tuple[str, str], ...] = flag("annotation", kind=MAP)
    blkio_weight: int = flag("blkio-weight", kind=UINT16)
    cpu_shares: int = flag("cpu-shares", "c", kind=INT)
    cpus: int = flag("cpus", kind=CPUS)
    detach: bool = flag("detach", "d", kind=BOOL)
    env: tuple[str, ...] = flag("env", "e", kind=LIST)
    health_interval: int = flag("health-interval", kind=DURATION)
    hostname: str = flag("hostname", "h")
    interactive: bool = flag("interactive", "i", kind=BOOL)
    memory: int = flag("memory", "m", kind=BYTES)
    name: str = flag("name")
    publish: tuple[str, ...] = flag("publish", "p", kind=LIST)
    rm: bool = flag("rm", kind=BOOL)
    shm_size: int = flag("shm-size", kind=BYTES)
    stop_timeout: int = flag("stop-timeout", kind=INT)
    tty: bool = flag("tty", "t", kind=BOOL)


@command(
    RunOptions,
    usage="[OPTIONS] IMAGE [COMMAND] [ARG...]",
    arity=at_least(1),
    interspersed=False,
    engine_failure=125,
    names_itself=True,
    shows_help_flag=True,
)
def run(ctx: Context, options: RunOptions) -> None:
    ctx.stdout.write(f"{options}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpOptions(Options):
    archive: bool = flag("archive", "a", kind=BOOL, help="Archive mode (copy all uid/gid information)")
    follow_link: bool = flag("follow-link", "L", kind=BOOL, help="Always follow symbol link in SRC_PATH")
    quiet: bool = flag(
        "quiet",
        "q",
        kind=BOOL,
        help="Suppress progress output during copy. Progress output is automatically suppressed if no terminal is"
        " attached",
    )


CP_DESCRIPTION = (
    "Copy files/folders between a container and the local filesystem\n\n"
    "Use '-' as the source to read a tar archive from stdin\n"
    "and extract it to a directory destination in a container.\n"
    "Use '-' as the destination to stream a tar archive of a\n"
    "container source to stdout."
)


@command(
    CpOptions,
    usage="[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    arity=exactly(2),
    description=CP_DESCRIPTION,
)
def cp(ctx: Context, options: CpOptions) -> None:
    ctx.stdout.write(f"{options}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class StopOptions(Options):
    signal: str = flag("signal", "s", help="Signal to send to the container")
    timeout: int = flag("timeout", "t", kind=INT, help="Seconds to wait before killing the container")


@command(StopOptions, usage="[OPTIONS] CONTAINER [CONTAINER...]", arity=at_least(1))
def stop(ctx: Context, options: StopOptions) -> None:
    ctx.stdout.write(f"{options}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOptions(Options):
    pass


@command(NoOptions, usage="SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", arity=exactly(2))
def tag(ctx: Context, options: NoOptions) -> None:
    ctx.stdout.write(f"{options.args}\n")


@command(NoOptions, usage="CONTAINER [PRIVATE_PORT[/PROTO]]", arity=between(1, 2))
def port(ctx: Context, options: NoOptions) -> None:
    ctx.stdout.write(f"{options.args}\n")
