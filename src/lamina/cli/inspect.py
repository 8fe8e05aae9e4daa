"""`lamina inspect` (C41): containers, images, volumes and networks by one command; and how every inspect prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from lamina.cli.command import at_least, command
from lamina.cli.failures import CliError
from lamina.cli.flags import Options, flag
from lamina.cli.format.help import INSPECT_HELP
from lamina.cli.output import show
from lamina.cli.values import BOOL
from lamina.errors import LaminaError, NotFound
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.cli.context import Context

GO_NAMES = {"ID": "Id"}
#: In the order in which docker tries them.
TYPES = ("container", "image", "network", "volume")

Inspector = Callable[[str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectOptions(Options):
    """Flags of `lamina inspect`."""

    format: str = flag("format", "f", help=INSPECT_HELP)
    size: bool = flag("size", "s", kind=BOOL, help="Display total file sizes if the type is container")
    type: str = flag("type", help="Only inspect objects of the given type")


@command(InspectOptions, usage="[OPTIONS] NAME|ID [NAME|ID...]", arity=at_least(1))
def inspect(ctx: Context, options: InspectOptions) -> int:
    """Prints what is known of any objects."""
    kind = options.type
    if "type" in options.given and not kind:
        raise CliError('type is empty: must be one of "' + '", "'.join(TYPES) + '"')
    if kind and kind not in TYPES:
        raise CliError(f'unknown type: "{kind}": must be one of "' + '", "'.join(TYPES) + '"')
    if options.size and kind not in {"", "container"}:
        ctx.stderr.write(f"WARNING: --size ignored for {kind}s\n")
    if kind:
        return inspect_each(ctx, options.args, options.format, lambda name: _one(ctx, kind, name, options.size))
    return inspect_each(ctx, options.args, options.format, lambda name: _any(ctx, name, options.size))


def _one(ctx: Context, kind: str, name: str, size: bool) -> Any:
    """An object of one kind; nouns are imported only when their turn comes."""
    engine = ctx.engine
    match kind:
        case "container":
            return engine.containers.inspect(name, size=size)
        case "image":
            return engine.images.inspect(name)
        case "network":
            return engine.networks.inspect(name)
        case _:
            return engine.volumes.inspect(name)


def _any(ctx: Context, name: str, size: bool) -> Any:
    for kind in TYPES:
        try:
            found = _one(ctx, kind, name, size)
        except NotFound:
            continue
        if size and kind != "container":
            ctx.stderr.write(f"WARNING: --size ignored for {kind}\n")
        return found
    raise CliError(f"Error: No such object: {name}")


def inspect_each(ctx: Context, names: Iterable[str], format: str, inspector: Inspector) -> int:
    """Prints the objects that exist, complains about each of the others, and exits 1 then."""
    from lamina.cli.format.inspecting import render

    found, failed = [], []
    if format and format != "json":
        from lamina.cli.format.gotemplate.template import parse

        parse(format)  # a malformed template is reported before anything is looked for
    for name in names:
        try:
            found.append(inspector(name))
        except LaminaError as error:
            failed.append(error)
    # Nothing but errors: docker prints `[]` for the array, and an empty line for a template.
    show(ctx, render(found, format, go_names=GO_NAMES) if found or format in {"", "json"} else "\n")
    if not failed:
        return 0
    from lamina.cli.main import describe

    ctx.stdout.flush()
    ctx.stderr.write("".join(describe(each)[0] + "\n" for each in failed))
    return 1
