"""`lamina image pull` and `lamina image push` (C08, C09, S14, S47)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamina.cli.command import command, exactly
from lamina.cli.failures import CliError
from lamina.cli.flags import Options, flag
from lamina.cli.images import platform_of
from lamina.cli.output import show
from lamina.cli.references import reference_of
from lamina.cli.values import BOOL
from lamina.errors import LaminaError
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.cli.context import Context
    from lamina.engine.transfer import Pushed


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions(Options):
    """Flags of `lamina image pull`."""

    all_tags: bool = flag("all-tags", "a", kind=BOOL, help="Download all tagged images in the repository")
    disable_content_trust: bool = flag("disable-content-trust", kind=BOOL, default=True, help="Skip image verification")
    platform: str = flag("platform", help="Set platform if server is multi-platform capable")
    quiet: bool = flag("quiet", "q", kind=BOOL, help="Suppress verbose output")


@command(PullOptions, usage="[OPTIONS] NAME[:TAG|@DIGEST]", arity=exactly(1))
def pull(ctx: Context, options: PullOptions) -> None:
    """Fetches an image; the last line is its full name."""
    from lamina.cli.progress import transfer_progress

    reference = reference_of(options.args[0])
    named = bool(reference.tag or reference.digest)
    if options.all_tags and named:
        raise CliError("tag can't be used with --all-tags/-a")
    if not named and not options.all_tags:
        reference = reference.tagged()
        if not options.quiet:
            ctx.stdout.write(f"Using default tag: {reference.tag}\n")
            ctx.stdout.flush()
    _refuse_trust(options.disable_content_trust)
    platform = platform_of(options.platform)
    with transfer_progress(ctx, ctx.stdout, quiet=options.quiet) as sink:
        if options.all_tags:
            ctx.engine.transfer.pull_all(reference, platform=platform, progress=sink)
        else:
            ctx.engine.transfer.pull(reference, platform=platform, progress=sink)
    show(ctx, f"{reference}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions(Options):
    """Flags of `lamina image push`."""

    all_tags: bool = flag("all-tags", "a", kind=BOOL, help="Push all tags of an image to the repository")
    disable_content_trust: bool = flag("disable-content-trust", kind=BOOL, default=True, help="Skip image signing")
    platform: str = flag(
        "platform",
        help="Push a platform-specific manifest as a single-platform image to the registry.\n"
        "Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n"
        "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    )
    quiet: bool = flag("quiet", "q", kind=BOOL, help="Suppress verbose output")


@command(PushOptions, usage="[OPTIONS] NAME[:TAG]", arity=exactly(1))
def push(ctx: Context, options: PushOptions) -> None:
    """Sends an image to its registry."""
    from lamina.cli.progress import transfer_progress

    reference = reference_of(options.args[0])
    if options.all_tags and (reference.tag or reference.digest):
        raise CliError("tag can't be used with --all-tags/-a")
    platform = platform_of(options.platform)
    _refuse_trust(options.disable_content_trust)
    engine = ctx.engine
    if not options.all_tags and not reference.tag and not reference.digest:
        reference = reference.tagged()
        if not options.quiet:
            ctx.stdout.write(f"Using default tag: {reference.tag}\n")
    if not options.quiet:
        show(ctx, f"The push refers to repository [{reference.repository}]\n")
        ctx.stdout.flush()
    with _as_part_of_the_stream(), transfer_progress(ctx, ctx.stdout, quiet=options.quiet) as sink:
        if options.all_tags:
            pushed = engine.transfer.push_all(reference, platform=platform, progress=sink)
        else:
            pushed = [engine.transfer.push(reference, platform=platform, progress=sink)]
    if options.quiet:
        show(ctx, f"{reference}\n")
        return
    for one in pushed:
        _note(ctx, one)


def _note(ctx: Context, pushed: Pushed) -> None:
    if pushed.partial_of is not None:
        show(
            ctx,
            "\n Info -> Not all multiplatform-content is present and only the available single-platform image was"
            f" pushed\n         {pushed.partial_of} -> {pushed.digest}\n",
        )


@contextmanager
def _as_part_of_the_stream() -> Iterator[None]:
    """Docker's daemon reports a failed push inside its stream of progress, where no prefix marks it (S48)."""
    try:
        yield
    except CliError:
        raise
    except LaminaError as error:
        raise CliError(error.message, hint=error.hint) from error


def _refuse_trust(disabled: bool) -> None:
    if not disabled:
        raise CliError("content trust (Notary v1) is not supported: leave --disable-content-trust out")
