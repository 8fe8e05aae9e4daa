"""`lamina image ls|inspect|history|tag|rm|prune` (C02, C04, C06, C07, C10, C12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lamina.cli.command import NO_ARGUMENTS, at_least, between, command, exactly
from lamina.cli.failures import CliError
from lamina.cli.flags import Options, flag
from lamina.cli.format.help import INSPECT_HELP, LIST_HELP
from lamina.cli.output import confirm, show, time_text
from lamina.cli.references import reference_or_id
from lamina.cli.values import BOOL, FILTER, STRINGS
from lamina.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamina.cli.context import Context
    from lamina.cli.format.formatter import Column
    from lamina.engine.images import HistoryLine, ListedImage
    from lamina.spec.platform import Platform

NONE = "<none>"
NOT_KNOWN = "N/A"
CREATED_BY_WIDTH = 45
SUBCOMMANDS = frozenset(
    {"build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save", "tag"}
)


def platform_of(text: str) -> Platform | None:
    """The value of `--platform`; None when it was not given.

    Raises:
        InvalidPlatform: malformed.
    """
    if not text:
        return None
    from lamina.engine.transfer import host_platform
    from lamina.spec.platform import Platform

    return Platform.parse(text, host=host_platform())


# --- image ls --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LsOptions(Options):
    """Flags of `lamina image ls`."""

    all: bool = flag("all", "a", kind=BOOL, help="Show all images (default hides intermediate images)")
    digests: bool = flag("digests", kind=BOOL, help="Show digests")
    filter: tuple[tuple[str, str], ...] = flag(
        "filter", "f", kind=FILTER, help="Filter output based on conditions provided"
    )
    format: str = flag("format", help=LIST_HELP)
    no_trunc: bool = flag("no-trunc", kind=BOOL, help="Don't truncate output")
    quiet: bool = flag("quiet", "q", kind=BOOL, help="Only show image IDs")
    tree: bool = flag("tree", kind=BOOL, help="List multi-platform images as a tree (EXPERIMENTAL)")


class ImageRow(NamedTuple):
    """One line of the list: an image under one of its names."""

    listed: ListedImage
    repository: str
    tag: str
    digest: str


@command(LsOptions, usage="[OPTIONS] [REPOSITORY[:TAG]]", arity=between(0, 1))
def ls(ctx: Context, options: LsOptions) -> None:
    """Lists images, newest first."""
    if options.tree:
        raise CliError("--tree is not supported: lamina keeps one image for each name, see 'lamina image inspect'")
    filters = options.filter
    if options.args:
        filters = (*filters, ("reference", options.args[0]))
    listed = ctx.engine.images.select(filters, all=options.all)
    with_digests = options.digests or "{{.Digest}}" in options.format
    rows = [row for each in listed for row in image_rows(each, with_digests, options.digests)]
    show(ctx, _image_formatter(ctx, options).render(rows, _image_format(options), quiet=options.quiet))
    if not listed and options.args and options.args[0] in SUBCOMMANDS:
        word = options.args[0]
        ctx.stderr.write(f'\nNo images found matching "{word}": did you mean "lamina image {word}"?\n')


def image_rows(listed: ListedImage, with_digests: bool, digest_rows: bool) -> list[ImageRow]:
    """The lines of one image: one for each tag, and for repositories that have it by digest only."""
    if not listed.tags and not listed.digests:
        return [ImageRow(listed, NONE, NONE, NONE)]
    digests: dict[str, list[str]] = {}
    for name in listed.digests:
        digests.setdefault(name.repository.familiar, []).append(str(name.digest))
    rows = []
    for tag in listed.tags:
        repository = tag.repository.familiar
        shown = digests.get(repository, []) if with_digests else []
        rows += [ImageRow(listed, repository, tag.tag, digest) for digest in shown or [NONE]]
    tagged = {tag.repository.familiar for tag in listed.tags}
    for repository, found in digests.items():
        if repository not in tagged:
            rows += [ImageRow(listed, repository, NONE, digest) for digest in (found if digest_rows else [""])]
    return rows


def _image_format(options: LsOptions) -> str:
    if options.format == "raw":
        if options.quiet:
            return "image_id: {{.ID}}"
        digest = "digest: {{.Digest}}\n" if options.digests else ""
        return (
            "repository: {{.Repository}}\ntag: {{.Tag}}\n"
            + digest
            + "image_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
        )
    if options.digests and options.format.startswith("table ") and "{{.Digest}}" not in options.format:
        return options.format + "\t{{.Digest}}"
    return options.format


def _image_formatter(ctx: Context, options: LsOptions) -> Any:
    from lamina.cli.format.formatter import Formatter

    digest = "{{.Digest}}\t" if options.digests else ""
    default = (
        "table {{.Repository}}\t{{.Tag}}\t"
        + digest
        + "{{.ID}}\t{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}"
    )
    now = ctx.engine.clock().timestamp()
    return Formatter("*formatter.imageContext", image_columns(not options.no_trunc, now), default=default)


def image_columns(trunc: bool, now: float, *, usage: bool = False) -> Sequence[Column[Any]]:
    """The placeholders of image lists; with `usage` the rows know shared and unique sizes and containers."""
    from lamina.cli.format.formatter import columns
    from lamina.cli.format.units import human_duration, human_size, human_size_3, short_id

    def identity(row: Any) -> str:
        text = str(row.listed.image.id)
        return short_id(text) if trunc else text

    def since(row: Any) -> str:
        created = _seconds(row.listed.image.created)
        return "" if created is None else human_duration(now - created) + " ago"

    def at(row: Any) -> str:
        created = _seconds(row.listed.image.created)
        return "" if created is None else time_text(created)

    def size(row: Any) -> str:
        return human_size_3(row.listed.image.size)

    def measured(attribute: str) -> Callable[[Any], str]:
        return lambda row: human_size(getattr(row.usage, attribute)) if usage else NOT_KNOWN

    return columns(
        ID=("IMAGE ID", identity),
        Repository=("REPOSITORY", lambda row: row.repository),
        Tag=("TAG", lambda row: row.tag),
        Digest=("DIGEST", lambda row: row.digest),
        CreatedSince=("CREATED", since),
        CreatedAt=("CREATED AT", at),
        Size=("SIZE", size),
        Containers=("CONTAINERS", lambda row: str(row.usage.containers) if usage else NOT_KNOWN),
        VirtualSize=("SIZE", lambda row: human_size(row.listed.image.size)),
        SharedSize=("SHARED SIZE", measured("shared")),
        UniqueSize=("UNIQUE SIZE", measured("unique")),
    )


def _seconds(text: str) -> float | None:
    """An RFC 3339 time as Unix seconds; None when it is not known."""
    from lamina.errors import Invalid
    from lamina.spec.timestamp import parse_rfc3339

    if not text or text.startswith("0001-01-01T00:00:00"):
        return None
    try:
        return parse_rfc3339(text).timestamp()
    except Invalid:
        return None


# --- image inspect ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectOptions(Options):
    """Flags of `lamina image inspect`."""

    format: str = flag("format", "f", help=INSPECT_HELP)
    platform: str = flag(
        "platform",
        help="Inspect a specific platform of the multi-platform image.\n"
        "If the image or the server is not multi-platform capable, the command will error out if the platform does not"
        " match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    )


@command(InspectOptions, usage="[OPTIONS] IMAGE [IMAGE...]", arity=at_least(1))
def inspect(ctx: Context, options: InspectOptions) -> int:
    """Prints what is known of images."""
    from lamina.cli.inspect import inspect_each

    wanted = platform_of(options.platform)
    return inspect_each(ctx, options.args, options.format, lambda name: ctx.engine.images.inspect(name, wanted))


# --- image history ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryOptions(Options):
    """Flags of `lamina image history`."""

    format: str = flag("format", help=LIST_HELP)
    human: bool = flag("human", "H", kind=BOOL, default=True, help="Print sizes and dates in human readable format")
    no_trunc: bool = flag("no-trunc", kind=BOOL, help="Don't truncate output")
    platform: str = flag(
        "platform",
        help='Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
    )
    quiet: bool = flag("quiet", "q", kind=BOOL, help="Only show image IDs")


@command(HistoryOptions, usage="[OPTIONS] IMAGE", arity=exactly(1))
def history(ctx: Context, options: HistoryOptions) -> None:
    """Lists the steps that made an image, newest first."""
    from lamina.cli.format.formatter import Formatter

    lines = ctx.engine.images.history(options.args[0], platform_of(options.platform))
    when = "CreatedSince" if options.human else "CreatedAt"
    default = f"table {{{{.ID}}}}\t{{{{.{when}}}}}\t{{{{.CreatedBy}}}}\t{{{{.Size}}}}\t{{{{.Comment}}}}"
    found = _history_columns(not options.no_trunc, options.human, ctx.engine.clock().timestamp())
    formatter: Formatter[HistoryLine] = Formatter("*image.historyContext", found, default=default)
    show(ctx, formatter.render(lines, options.format, quiet=options.quiet))


def _history_columns(trunc: bool, human: bool, now: float) -> Sequence[Column[Any]]:
    from lamina.cli.format.formatter import columns
    from lamina.cli.format.units import ellipsis, human_duration, human_size_3, short_id

    def identity(line: HistoryLine) -> str:
        if line.id is None:
            return "<missing>"
        return short_id(str(line.id)) if trunc else str(line.id)

    def at(line: HistoryLine) -> str:
        created = _seconds(line.created)
        return NOT_KNOWN if created is None else _rfc3339(created)

    def since(line: HistoryLine) -> str:
        created = _seconds(line.created)
        return NOT_KNOWN if created is None else human_duration(now - created) + " ago"

    def by(line: HistoryLine) -> str:
        text = line.created_by.replace("\t", " ")
        return ellipsis(text, CREATED_BY_WIDTH) if trunc else text

    return columns(
        ID=("IMAGE", identity),
        CreatedSince=("CREATED", since if human else at),
        CreatedAt=("CREATED AT", at),
        CreatedBy=("CREATED BY", by),
        Size=("SIZE", lambda line: human_size_3(line.size) if human else str(line.size)),
        Comment=("COMMENT", lambda line: line.comment),
    )


def _rfc3339(seconds: float) -> str:
    """Go's RFC 3339 in local time."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(int(seconds), UTC).astimezone().isoformat().replace("+00:00", "Z")


# --- image tag -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOptions(Options):
    """`lamina image tag` has no flags."""


@command(TagOptions, usage="SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", arity=exactly(2))
def tag(ctx: Context, options: TagOptions) -> None:
    """Names an image; silent, as docker is."""
    source, target = options.args
    for text in (source, target):
        try:
            reference_or_id(text)
        except CliError as error:
            raise CliError(
                f'Error parsing reference: "{text}" is not a valid repository/tag: {error.message}'
            ) from None
    if "@" in target:
        raise CliError("refusing to create a tag with a digest reference")
    ctx.engine.images.tag(source, target)


# --- image rm --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RmOptions(Options):
    """Flags of `lamina image rm`."""

    force: bool = flag("force", "f", kind=BOOL, help="Force removal of the image")
    no_prune: bool = flag("no-prune", kind=BOOL, help="Do not delete untagged parents")
    platform: tuple[str, ...] = flag(
        "platform",
        kind=STRINGS,
        help='Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
    )


@command(RmOptions, usage="[OPTIONS] IMAGE [IMAGE...]", arity=at_least(1))
def rm(ctx: Context, options: RmOptions) -> int:
    """Removes images; goes on after a failure, and exits 1 then."""
    from lamina.errors import LaminaError, NotFound

    failed: list[LaminaError] = []
    for name in options.args:
        try:
            targets = [name]
            if options.platform:
                found = [ctx.engine.images.get(name, platform_of(text)) for text in options.platform]
                # A name stands for its image here; the siblings that came with an index go by their ids.
                own = ctx.engine.images.get(name).image.id
                targets = list(dict.fromkeys(name if one.image.id == own else str(one.image.id) for one in found))
            for target in targets:
                for line in ctx.engine.images.remove(target, force=options.force, prune=not options.no_prune):
                    show(ctx, f"{line}\n")
        except LaminaError as error:
            failed.append(error)
    if not failed:
        return 0
    if options.force and all(isinstance(error, NotFound) for error in failed):
        # Docker complains, and calls it a success all the same.
        _complain(ctx, failed)
        return 0
    _complain(ctx, failed)
    return 1


def _complain(ctx: Context, errors: Sequence[Any]) -> None:
    from lamina.cli.main import describe

    for error in errors:
        ctx.stderr.write(describe(error)[0] + "\n")


# --- image prune -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOptions(Options):
    """Flags of `lamina image prune`."""

    all: bool = flag("all", "a", kind=BOOL, help="Remove all unused images, not just dangling ones")
    filter: tuple[tuple[str, str], ...] = flag(
        "filter", kind=FILTER, help='Provide filter values (e.g. "until=<timestamp>")'
    )
    force: bool = flag("force", "f", kind=BOOL, help="Do not prompt for confirmation")


@command(PruneOptions, usage="[OPTIONS]", arity=NO_ARGUMENTS)
def prune(ctx: Context, options: PruneOptions) -> int:
    """Removes images that nothing needs, once that is confirmed."""
    which = "images without at least one container associated to them" if options.all else "dangling images"
    question = f"WARNING! This will remove all {which}.\nAre you sure you want to continue?"
    if not options.force and not confirm(ctx, question):
        return 0
    pruned = ctx.engine.images.prune(options.filter, all=options.all)
    show(ctx, deleted_images(pruned.removed))
    show(ctx, reclaimed(pruned.bytes))
    return 0


def deleted_images(removed: Sequence[Any]) -> str:
    """The lines of a prune, with the blank one after them; "" for nothing."""
    if not removed:
        return ""
    lines = [f"untagged: {line.untagged}" if line.untagged else f"deleted: {line.deleted}" for line in removed]
    return "Deleted Images:\n" + "\n".join(lines) + "\n\n"


def reclaimed(size: int) -> str:
    """`Total reclaimed space: 1.2MB`."""
    from lamina.cli.format.units import human_size

    return f"Total reclaimed space: {human_size(size)}\n"
