"""`lamina build` (C01): flags to options, the transcript on stderr, the report of a failure."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamina.cli.build_output import LaterFlags, pushes, refuse_later
from lamina.cli.command import command, exactly
from lamina.cli.failures import CliError
from lamina.cli.flags import flag
from lamina.cli.values import BOOL, BYTES, LIST
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.build.builder import BuildFailed, Built
    from lamina.cli.context import Context
    from lamina.engine.builds import BuildOptions
    from lamina.errors import LaminaError


def _host(text: str) -> str:
    from lamina.cli import container_flags  # only when the flag is given

    container_flags.host_entry(text)
    return text


def _ulimit(text: str) -> str:
    from lamina.cli import container_flags

    container_flags.ulimit_entry(text)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFlags(LaterFlags):
    """Flags of `lamina build`."""

    add_host: tuple[str, ...] = flag(
        "add-host", help="Add a custom host-to-IP mapping (host:ip)", kind=LIST.checked(_host)
    )
    build_arg: tuple[str, ...] = flag("build-arg", help="Set build-time variables", kind=LIST)
    file: str = flag("file", "f", help='Name of the Dockerfile (Default is "PATH/Dockerfile")')
    force_rm: bool = flag("force-rm", help="Always remove intermediate containers", kind=BOOL, hidden=True)
    iidfile: str = flag("iidfile", help="Write the image ID to the file")
    label: tuple[str, ...] = flag("label", help="Set metadata for an image", kind=LIST)
    load: bool = flag("load", help='Shorthand for "--output=type=docker"', kind=BOOL)
    network: str = flag(
        "network",
        help="Set the networking mode for the RUN instructions during build",
        default="default",
    )
    no_cache: bool = flag("no-cache", help="Do not use cache when building the image", kind=BOOL)
    platform: str = flag("platform", help="Set platform if server is multi-platform capable")
    progress: str = flag("progress", help="Set type of progress output (auto, plain, tty, quiet)", default="auto")
    output: tuple[str, ...] = flag(
        "output", "o", help='Output destination (format: "type=local,dest=path")', kind=LIST, hidden=True
    )
    pull: bool = flag("pull", help="Always attempt to pull a newer version of the image", kind=BOOL)
    push: bool = flag("push", help='Shorthand for "--output=type=registry"', kind=BOOL)
    quiet: bool = flag("quiet", "q", help="Suppress the build output and print image ID on success", kind=BOOL)
    rm: bool = flag(
        "rm", help="Remove intermediate containers after a successful build", kind=BOOL, default=True, hidden=True
    )
    shm_size: int = flag("shm-size", help="Size of /dev/shm", kind=BYTES)
    squash: bool = flag("squash", help="Squash newly built layers into a single new layer", kind=BOOL)
    tag: tuple[str, ...] = flag("tag", "t", help='Name and optionally a tag in the "name:tag" format', kind=LIST)
    target: str = flag("target", help="Set the target build stage to build.")
    ulimit: tuple[str, ...] = flag(
        "ulimit", kind=LIST.checked(_ulimit).named("ulimit", empty_text="[]"), help="Ulimit options"
    )


@command(BuildFlags, usage="[OPTIONS] PATH | URL | -", arity=exactly(1))
def build(ctx: Context, flags: BuildFlags) -> int | None:
    """Builds, and prints what docker's client prints."""
    from lamina.build.builder import BuildFailed
    from lamina.cli.build_progress import build_progress
    from lamina.errors import Denied, Invalid, NotFound, Unsupported

    if flags.progress not in {"auto", "plain", "tty", "quiet"}:
        raise CliError(f"unsupported progress mode {flags.progress!r}: want auto, plain, tty or quiet")
    refuse_later(flags)
    options = _options(ctx, flags)
    mode = flags.progress if "progress" in flags.given else ctx.env.get("BUILDKIT_PROGRESS", "") or "auto"
    failure: BuildFailed | None = None
    refusal: Denied | Invalid | NotFound | Unsupported | None = None
    with _interruptible() as cancelled:
        with build_progress(ctx, ctx.stderr, mode=mode, quiet=flags.quiet or mode == "quiet") as sink:
            try:
                built = ctx.engine.builds.build(options, sink, stdin=ctx.stdin_bytes, cancelled=cancelled)
            except BuildFailed as error:
                failure = error
            except (Denied, Invalid, NotFound, Unsupported) as error:
                refusal = error
    if failure is not None:
        return _report_failure(ctx, failure)
    if refusal is not None:
        return _report_refusal(ctx, refusal)
    image = str(built.image.id)
    if flags.iidfile:
        _write_id(ctx.path(flags.iidfile), image)
    if flags.quiet or mode == "quiet":
        ctx.stdout.write(f"{image}\n")
    else:
        _report_warnings(ctx, built)
    return None


def _options(ctx: Context, flags: BuildFlags) -> BuildOptions:
    from lamina.engine.builds import BuildOptions
    from lamina.errors import Invalid
    from lamina.spec.platform import Platform, of_machine
    from lamina.spec.reference import Reference

    networks = {"": "default", "bridge": "default", "default": "default", "host": "host", "none": "none"}
    if flags.network not in networks:
        raise CliError(f"network mode {flags.network!r} is not supported by build", hint="use default, host or none")
    tags = []
    for text in flags.tag:
        try:
            reference = Reference.parse(text)
        except Invalid as error:
            raise CliError(
                f'invalid argument "{text}" for "-t, --tag" flag: {error.message}\n\n'
                "Usage:  lamina build [OPTIONS] PATH | URL | -\n\nRun 'lamina build --help' for more information",
                status=125,
            ) from None
        tags.append(reference.tagged())
    push = pushes(flags.output, push=flags.push)
    if push and not tags:
        raise CliError("ERROR: tag is needed when pushing to registry", hint="name the image with -t")
    wanted = flags.platform or ctx.env.get("DOCKER_DEFAULT_PLATFORM", "")
    return BuildOptions(
        context=flags.args[0],
        cwd=ctx.cwd,
        dockerfile=flags.file,
        tags=tuple(tags),
        build_args=_build_args(ctx, flags.build_arg),
        labels=dict(_pair(entry) for entry in flags.label),
        target=flags.target,
        platform=Platform.parse(wanted, host=of_machine(os.uname().machine)) if wanted else None,
        no_cache=flags.no_cache,
        pull=flags.pull,
        network=networks[flags.network],
        add_hosts=flags.add_host,
        shm_size=flags.shm_size or 0,
        ulimits=flags.ulimit,
        squash=flags.squash,
        push=push,
    )


def _pair(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value


def _build_args(ctx: Context, entries: tuple[str, ...]) -> dict[str, str]:
    """`NAME=value`, or `NAME` alone to take the environment's value; the config file's proxies come first (D38)."""
    from lamina.cli.dockerconfig import proxy_arguments

    found = proxy_arguments(ctx)
    for entry in entries:
        name, equals, value = entry.partition("=")
        if equals:
            found[name] = value
        elif name in ctx.env:
            found[name] = ctx.env[name]
    return found


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM stop the build cleanly: commands are killed, mounts undone, finished steps stay cached."""
    cancelled = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        if cancelled.is_set():
            raise KeyboardInterrupt
        cancelled.set()

    if threading.current_thread() is not threading.main_thread():
        yield cancelled
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancelled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report_failure(ctx: Context, failure: BuildFailed) -> int:
    """The marked lines and one line on what went wrong (D49); the transcript has shown the output."""
    from lamina.cli.terminal import printable

    write = ctx.stderr.write
    if failure.excerpt:
        write(failure.excerpt.rstrip("\n") + "\n")
    write(f"ERROR: {printable(failure.message, newlines=True)}\n")
    if failure.hint:
        write(f"Hint: {printable(failure.hint)}\n")
    return 1


def _report_refusal(ctx: Context, error: LaminaError) -> int:
    """What is wrong before there is a build: the context, its ignore file, or the Dockerfile's place."""
    from lamina.build.dockerfile.errors import DockerfileError
    from lamina.cli.terminal import printable

    write = ctx.stderr.write
    if isinstance(error, DockerfileError):
        write(printable(error.excerpt(), newlines=True).rstrip("\n") + "\n")
    solving = isinstance(error, DockerfileError) or error.message.startswith("failed to read dockerfile")
    write(f"ERROR: {'failed to solve: ' if solving else ''}{printable(error.message, newlines=True)}\n")
    if error.hint:
        write(f"Hint: {printable(error.hint)}\n")
    return 1


def _report_warnings(ctx: Context, built: Built) -> None:
    from lamina.build.dockerfile.lint import summary
    from lamina.cli.terminal import printable

    if built.unconsumed:
        names = " ".join(built.unconsumed)
        ctx.stderr.write(printable(f"[Warning] One or more build-args [{names}] were not consumed") + "\n")
    if built.warnings:
        ctx.stderr.write("\n" + printable(summary(list(built.warnings)), newlines=True))


def _write_id(path: str, image: str) -> None:
    """Atomically: whoever waits for the file never reads half an id."""
    temporary = f"{path}.tmp{os.getpid()}"
    try:
        with open(temporary, "w", encoding="ascii") as file:
            file.write(image)
        os.replace(temporary, path)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
