"""`lamina image save|load|import` (C03, C05, C11, S40, S41)."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from lamina.cli.command import NO_ARGUMENTS, at_least, command
from lamina.cli.failures import CliError
from lamina.cli.flags import Options, flag
from lamina.cli.images import platform_of
from lamina.cli.output import show
from lamina.cli.references import reference_of
from lamina.cli.values import BOOL, LIST
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.cli.context import Context
    from lamina.engine.archives import Loaded
    from lamina.engine.imports import ImportOptions as EngineImport

_URL = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions(Options):
    """Flags of `lamina image save`."""

    output: str = flag("output", "o", help="Write to a file, instead of STDOUT")
    platform: str = flag(
        "platform",
        help='Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
    )


@command(SaveOptions, usage="[OPTIONS] IMAGE [IMAGE...]", arity=at_least(1))
def save(ctx: Context, options: SaveOptions) -> None:
    """Writes images as a tar, to a file that appears when it is complete, or to standard output."""
    platform = platform_of(options.platform)
    if not options.output:
        if ctx.is_tty(ctx.stdout):
            raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        stream = ctx.stdout_bytes
        ctx.engine.archives.save(options.args, stream.write, platform=platform)
        stream.flush()
        return
    path = ctx.path(options.output)
    _check_output(path, options.output)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb", buffering=0) as device:  # /dev/stdout, a fifo: nothing to put in place afterwards
            ctx.engine.archives.save(options.args, _whole(device.write), platform=platform)
        return
    ctx.engine.archives.save_file(options.args, path, platform=platform)


def _whole(write: object) -> object:
    """A write that goes on until everything is written: pipes take less than they are given."""

    def all_of(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[write(view) or 0 :]  # type: ignore[operator]

    return all_of


def _check_output(path: str, shown: str) -> None:
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise CliError(
            f'failed to save image: invalid output path: directory "{os.path.dirname(shown)}" does not exist'
        )
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode) or stat.S_ISBLK(mode):
        raise CliError(
            f'failed to save image: invalid output path: "{shown}" must be a regular file, a pipe or a character device'
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions(Options):
    """Flags of `lamina image load`."""

    input: str = flag("input", "i", help="Read from tar archive file, instead of STDIN")
    platform: str = flag(
        "platform",
        help='Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
    )
    quiet: bool = flag("quiet", "q", kind=BOOL, help="Suppress the load output")


@command(LoadOptions, usage="[OPTIONS]", arity=NO_ARGUMENTS)
def load(ctx: Context, options: LoadOptions) -> None:
    """Reads images from an archive, and lists every name that it brought or moved (threat 18)."""
    from lamina.cli.progress import transfer_progress

    platform = platform_of(options.platform)
    if not options.input and ctx.is_tty(ctx.stdin):
        raise CliError("requested load from stdin, but stdin is empty")
    if options.input:
        _check_readable(ctx.path(options.input), options.input)
    with transfer_progress(ctx, ctx.stdout, quiet=options.quiet or not ctx.is_tty(ctx.stdout)) as sink:
        if options.input:
            loaded = ctx.engine.archives.load_file(ctx.path(options.input), platform=platform, progress=sink)
        else:
            loaded = ctx.engine.archives.load(ctx.stdin_bytes, platform=platform, progress=sink)
    for image in loaded:
        show(ctx, _loaded(image))


def _loaded(loaded: Loaded) -> str:
    lines = [
        f"The image {name.familiar} already exists, renaming the old one with ID {old} to empty string\n"
        for name, old in loaded.moved
    ]
    lines += [f"Loaded image: {name.familiar}\n" for name in loaded.names]
    return "".join(lines) if loaded.names else f"Loaded image ID: {loaded.image}\n"


def _check_readable(path: str, shown: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise CliError(f"open {shown}: {reason}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions(Options):
    """Flags of `lamina image import`."""

    change: tuple[str, ...] = flag("change", "c", kind=LIST, help="Apply Dockerfile instruction to the created image")
    message: str = flag("message", "m", help="Set commit message for imported image")
    platform: str = flag("platform", help="Set platform if server is multi-platform capable")


@command(ImportOptions, usage="[OPTIONS] file|URL|- [REPOSITORY[:TAG]]", arity=at_least(1))
def import_(ctx: Context, options: ImportOptions) -> None:
    """Makes an image of a root file system, and prints its id."""
    from lamina.engine.imports import ImportOptions as EngineImport

    source = options.args[0]
    wanted = EngineImport(
        reference=reference_of(options.args[1]) if len(options.args) > 1 else None,
        # Docker's client sends a file like a stream, so that its name is not known to the engine.
        source=source if _URL.match(source) else "-",
        place=_place(ctx, source),
        message=options.message,
        changes=options.change,
        platform=platform_of(options.platform),
    )
    ctx.stdout.write(f"{_import(ctx, source, wanted)}\n")


def _place(ctx: Context, source: str) -> str:
    if source == "-":
        return "standard input"
    return source if _URL.match(source) else ctx.path(source)


def _import(ctx: Context, source: str, wanted: EngineImport) -> object:
    archives = ctx.engine.archives
    if source == "-":
        return archives.import_tar(ctx.stdin_bytes, wanted)
    if _URL.match(source):
        show(ctx, f"Downloading from {source}\n")
        ctx.stdout.flush()
        return archives.import_url(source, wanted)
    path = ctx.path(source)
    _check_readable(path, source)
    with open(path, "rb", buffering=0) as file:
        return archives.import_tar(file, wanted)
