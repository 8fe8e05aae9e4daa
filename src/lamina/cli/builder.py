"""`lamina builder prune` (C47)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.cli.command import NO_ARGUMENTS, command
from lamina.cli.flags import Options, flag
from lamina.cli.images import reclaimed
from lamina.cli.output import confirm, show
from lamina.cli.system import cache_objects
from lamina.cli.values import BOOL, BYTES, FILTER
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.cli.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOptions(Options):
    """Flags of `lamina builder prune`."""

    all: bool = flag("all", "a", kind=BOOL, help="Remove all unused build cache, not just dangling ones")
    filter: tuple[tuple[str, str], ...] = flag("filter", kind=FILTER, help='Provide filter values (e.g. "until=24h")')
    force: bool = flag("force", "f", kind=BOOL, help="Do not prompt for confirmation")
    keep_storage: int = flag("keep-storage", kind=BYTES, help="Amount of disk space to keep for cache")


@command(PruneOptions, usage="", arity=NO_ARGUMENTS)
def prune(ctx: Context, options: PruneOptions) -> int:
    """Removes build cache, once that is confirmed."""
    which = "all build cache" if options.all else "all dangling build cache"
    question = f"WARNING! This will remove {which}. Are you sure you want to continue?"
    if not options.force and not confirm(ctx, question):
        return 0
    pruned = ctx.engine.system.cache.prune(options.filter, all=options.all, keep=options.keep_storage)
    show(ctx, cache_objects(pruned.removed))
    show(ctx, reclaimed(pruned.bytes))
    return 0
