"""`lamina cp` and `lamina export` (C17, C20)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lamina.cli.command import command, exactly
from lamina.cli.failures import DAEMON_PREFIX, CliError
from lamina.cli.flags import Options, flag
from lamina.cli.values import BOOL
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.cli.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class CpOptions(Options):
    """Flags of `lamina cp`."""

    archive: bool = flag("archive", "a", kind=BOOL, help="Archive mode (copy all uid/gid information)")
    follow_link: bool = flag("follow-link", "L", kind=BOOL, help="Always follow symbol link in SRC_PATH")
    quiet: bool = flag(
        "quiet",
        "q",
        kind=BOOL,
        help="Suppress progress output during copy. Progress output is automatically suppressed if no terminal is"
        " attached",
    )


@command(
    CpOptions,
    usage="[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    arity=exactly(2),
    description="Copy files/folders between a container and the local filesystem\n\n"
    "Use '-' as the source to read a tar archive from stdin\n"
    "and extract it to a directory destination in a container.\n"
    "Use '-' as the destination to stream a tar archive of a\n"
    "container source to stdout.",
)
def cp(ctx: Context, options: CpOptions) -> None:
    """Copies into or out of a container."""
    from lamina.engine.container_files import PathRefused

    try:
        _copy(ctx, options)
    except PathRefused as error:
        raise CliError(error.message) from None


def _copy(ctx: Context, options: CpOptions) -> None:
    from lamina.engine.container_files import ContainerFiles

    source, target = options.args
    if not source:
        raise CliError("source can not be empty")
    if not target:
        raise CliError("destination can not be empty")
    from_container, source_path = split(source)
    to_container, target_path = split(target)
    if from_container and to_container:
        raise CliError("copying between containers is not supported")
    if not from_container and not to_container:
        raise CliError("must specify at least one container source")
    if from_container and not source_path:
        raise CliError(f"{DAEMON_PREFIX}bad parameter: path cannot be empty")
    if to_container and not target_path:
        raise CliError("no such directory")
    files = ContainerFiles(ctx.engine)
    if from_container:
        if target_path == "-":
            if ctx.is_tty(ctx.stdout):
                raise CliError("refusing to copy to terminal: use redirection")
            out = ctx.stdout_bytes
            files.tar_out(from_container, source_path, out, follow=options.follow_link)
            out.flush()
            return
        size = files.copy_out(
            from_container,
            source_path,
            _absolute(ctx, target_path),
            archive=options.archive,
            follow=options.follow_link,
        )
        shown = _absolute(ctx, target_path)
    else:
        if source_path == "-":
            files.tar_in(ctx.stdin_bytes, to_container, target_path)
            return
        size = files.copy_in(
            _absolute(ctx, source_path),
            to_container,
            target_path,
            archive=options.archive,
            follow=options.follow_link,
        )
        shown = f"{to_container}:{target_path}"
    quiet = options.quiet if "quiet" in options.given else not ctx.is_tty(ctx.stdout)
    if not quiet:
        from lamina.cli.format.units import human_size_3
        from lamina.cli.terminal import printable

        ctx.stderr.write(f"Successfully copied {human_size_3(size)} to {printable(shown)}\n")


def split(argument: str) -> tuple[str, str]:
    """`container:path` in two; a path that is absolute or begins with a dot is one of the host."""
    if argument.startswith(("/", ".")):
        return "", argument
    container, colon, path = argument.partition(":")
    return (container, path) if colon else ("", argument)


def _absolute(ctx: Context, path: str) -> str:
    """A path of the host made absolute, with the end that the user gave it."""
    clean = ctx.path(path)
    if path.endswith("/."):
        return clean.rstrip("/") + "/."
    if path == ".":
        return clean + "/."
    return clean.rstrip("/") + "/" if path.endswith("/") else clean


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions(Options):
    """Flags of `lamina export`."""

    output: str = flag("output", "o", help="Write to a file, instead of STDOUT")


@command(ExportOptions, usage="[OPTIONS] CONTAINER", arity=exactly(1))
def export(ctx: Context, options: ExportOptions) -> None:
    """Writes a container's file system as a tar; a file appears only when it is complete."""
    commits = ctx.engine.commits
    if not options.output:
        if ctx.is_tty(ctx.stdout):
            raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        out = ctx.stdout_bytes
        commits.export(options.args[0], out.write)
        out.flush()
        return
    path = ctx.path(options.output)
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise CliError(f'failed to export container: invalid output path: directory "{directory}" does not exist')
    if os.path.isdir(path):
        raise CliError(f'failed to export container: invalid output path: "{options.output}" must be a regular file')
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as device:
            commits.export(options.args[0], device.write)
        return
    temporary = f"{path}.lamina-{os.getpid()}"
    try:
        with open(temporary, "xb") as file:
            commits.export(options.args[0], file.write)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
