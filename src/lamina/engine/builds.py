"""Images from Dockerfiles: joins the builder with the store, the runtime and the registries."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO, Final

from lamina.build.builder import Builder, BuildFailed, BuildRequest, Built, epoch_text
from lamina.build.dockerfile.arguments import Platforms
from lamina.build.dockerfile.binding import ImageRef
from lamina.build.dockerfile.plan import BaseImage, RunDefaults
from lamina.build.exporters.image import ImageExport
from lamina.build.progress import BuildSink, VertexDone, VertexProgress, VertexStarted
from lamina.engine.contexts import prepared
from lamina.errors import Cancelled, Invalid, LaminaError, Unavailable
from lamina.progress import Progress, ProgressSink
from lamina.spec.platform import Platform, of_machine
from lamina.spec.reference import Reference
from lamina.values import dataclass, field

if TYPE_CHECKING:
    from lamina.engine.engine import Engine
    from lamina.runtime.executor import ExecRequest, Executor, OutputSink
    from lamina.runtime.network.pool import NetworkPool


#: What FROM takes for the id of an image here; BuildKit would look for a repository of that name, and so is `cafe` one.
_ID: Final = re.compile("(sha256:)?[0-9a-f]{12,64}")


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What `lamina build` was told.

    Attributes:
        context: a directory or `-`.
        dockerfile: `-f`, "" for the context's own.
        cwd: what relative paths are relative to.
        tags: names for the image, complete references.
        build_args: `--build-arg`.
        labels: `--label`.
        target: `--target`.
        platform: `--platform`, None for this machine's.
        no_cache: `--no-cache`.
        pull: ask registries for newer bases (`--pull`).
        network: `default`, `none` or `host`, for RUN.
        add_hosts: `name:address`.
        shm_size: bytes, 0 for the default.
        ulimits: `name=soft:hard`, for RUN.
        squash: make one layer of all new ones (S39).
        push: send every tag to its registry when the image is there.
    """

    context: str
    cwd: str
    dockerfile: str = ""
    tags: tuple[Reference, ...] = ()
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platform: Platform | None = None
    no_cache: bool = False
    pull: bool = False
    network: str = "default"
    add_hosts: tuple[str, ...] = ()
    shm_size: int = 0
    ulimits: tuple[str, ...] = ()
    squash: bool = False
    push: bool = False


class PushFailed(Unavailable):
    """The image was built and named, and a registry did not take it."""

    def __init__(self, reference: Reference, cause: LaminaError) -> None:
        super().__init__(f"failed to push {reference}: {cause.message}", hint=cause.hint)


class Builds:
    """Builds in one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def build(
        self, options: BuildOptions, sink: BuildSink, *, stdin: BinaryIO, cancelled: threading.Event | None = None
    ) -> Built:
        """Build an image.

        Args:
            options: what to build.
            sink: is told what happens, from any thread.
            stdin: read when the context or the Dockerfile is `-`.
            cancelled: stops the build when set.

        Raises:
            BuildFailed: with the step, its output and the place in the Dockerfile; or a push failed (`PushFailed`),
                and the image is here all the same.
        """
        engine = self._engine
        host = of_machine(os.uname().machine)
        epoch = self._epoch(options)
        with prepared(options.context, options.dockerfile, cwd=options.cwd, stdin=stdin) as context:
            runner = _Runner(engine)
            builder = Builder(engine.store, runner, _Resolver(engine, sink, pull=options.pull))
            request = BuildRequest(
                dockerfile=context.dockerfile,
                dockerfile_name=context.name,
                context=context.directory,
                ignore=context.ignore,
                ignore_size=context.ignore_size,
                owners=context.owners,
                platforms=Platforms(build=host, target=options.platform or host),
                target=options.target,
                build_args=options.build_args,
                no_cache=options.no_cache,
                defaults=RunDefaults(options.network, options.add_hosts, options.shm_size, options.ulimits),
                export=ImageExport(options.tags, options.labels, epoch_text(epoch), squash=options.squash),
                source_date_epoch=epoch,
            )
            try:
                built = builder.build(request, sink, cancelled)
            finally:
                runner.close()
        for tag in options.tags if options.push else ():
            self._push(tag, sink, cancelled)
        return built

    def _push(self, tag: Reference, sink: BuildSink, cancelled: threading.Event | None) -> None:
        """Send one name's image; shown as a step of the build."""
        name = f"pushing {tag}"
        sink(VertexStarted(name, name))
        try:
            self._engine.transfer.push(tag, progress=_reporter(sink, name), cancel=cancelled)
        except Cancelled as error:
            sink(VertexDone(name, error=error.message, canceled=True))
            raise
        except LaminaError as error:
            sink(VertexDone(name, error=error.message))
            raise BuildFailed(PushFailed(tag, error), name, "", "") from error
        sink(VertexDone(name))

    def _epoch(self, options: BuildOptions) -> int | None:
        """SOURCE_DATE_EPOCH from a build argument, else from the environment (B19)."""
        text = options.build_args.get("SOURCE_DATE_EPOCH") or self._engine.settings.env.get("SOURCE_DATE_EPOCH", "")
        if not text:
            return None
        if not (text.isascii() and text.isdigit()) or int(text) > 1 << 40:
            raise Invalid(f"invalid SOURCE_DATE_EPOCH: {text}", hint="give seconds since 1970-01-01, or unset it")
        return int(text)


class _Runner:
    """Runs commands; the runtime and the network are looked for when the first one runs, not in a cached build."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._made: tuple[Executor, NetworkPool] | None = None

    def run(self, request: ExecRequest, on_output: OutputSink, *, cancel: threading.Event | None = None) -> int:
        """Run to the end; the exit code."""
        return self._executor().run(request, on_output, cancel=cancel)

    def close(self) -> None:
        """Give the networks back."""
        if self._made is not None:
            self._made[1].close()

    def _executor(self) -> Executor:
        with self._lock:
            if self._made is None:
                from lamina.runtime.executor import Executor
                from lamina.runtime.network.pool import NetworkPool

                engine = self._engine
                pool = NetworkPool(engine.bridges, engine.store.db)
                runner = Executor(engine.settings.run_root, network=pool, runtime=engine.settings.runtime)
                self._made = runner, pool
            return self._made[0]


class _Resolver:
    """Finds base images here first, then at their registry; shows it as a step of the build."""

    def __init__(self, engine: Engine, sink: BuildSink, *, pull: bool) -> None:
        self._engine, self._sink, self._pull = engine, sink, pull

    def __call__(self, reference: ImageRef, platform: Platform) -> BaseImage:
        name = f"[internal] load metadata for {reference.reference}"
        self._sink(VertexStarted(name, name))
        try:
            found = self._engine.transfer.ensure(
                reference.written if _ID.fullmatch(reference.written) else str(reference.reference),
                platform=platform,
                policy="always" if self._pull else "missing",
                progress=_reporter(self._sink, name),
            )
        except LaminaError as error:
            self._sink(VertexDone(name, error=str(error)))
            raise
        self._sink(VertexDone(name))
        return BaseImage(self._engine.store.images.config(found.image.id), str(reference.reference))


def _reporter(sink: BuildSink, vertex: str) -> ProgressSink:
    """Shows what a transfer tells of its layers as parts of a step."""

    def report(event: Progress) -> None:
        if event.id:
            sink(VertexProgress(vertex, f"{event.id} {event.status}", event.current, event.total, event.final))

    return report
