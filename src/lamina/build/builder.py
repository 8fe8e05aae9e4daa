"""The builder: a Dockerfile and a context in, an image of the local store out (design.md, section 3, build)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from lamina.build.cache.local import LocalCache
from lamina.build.cache.statcache import StatCache
from lamina.build.dockerfile.arguments import Platforms, unconsumed
from lamina.build.dockerfile.binding import Graph, bind
from lamina.build.dockerfile.checks import check_file, linter_for
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.ignore import IgnoreMatcher
from lamina.build.dockerfile.lint import Linter, LintWarning
from lamina.build.dockerfile.parser import Dockerfile, parse
from lamina.build.dockerfile.plan import ImageResolver, Plan, RunDefaults, make_plan
from lamina.build.dockerfile.source import Range
from lamina.build.dockerfile.stages import stages
from lamina.build.exporters.digests import LayerDigests
from lamina.build.exporters.image import ExportMeans, ImageExport, export_image
from lamina.build.graph.definitions import ContextTree, Copy
from lamina.build.graph.vertex import Vertex, walk
from lamina.build.observe import Transcript
from lamina.build.ops.binding import Means
from lamina.build.ops.results import Result, Tree
from lamina.build.ops.run import Runner
from lamina.build.ops.tree import SourceTree
from lamina.build.ops.workspace import StoreTrees
from lamina.build.progress import BuildSink, VertexDone, VertexProgress, VertexStarted
from lamina.build.solver.scheduler import Scheduler, VertexFailed
from lamina.errors import Cancelled, Invalid, LaminaError
from lamina.layer.owners import Owners
from lamina.spec.digest import Digest
from lamina.spec.timestamp import rfc3339
from lamina.store.leases import Lease
from lamina.store.records import ImageRecord
from lamina.store.store import Store
from lamina.values import dataclass, field

#: Modification time of files copied from a context: a fixed one, so that layers do not depend on when a clone was made
#: (docs/adr). One second past the earliest time that zip archives can hold.
CONTEXT_TIME: Final = 315_532_801
_EXPORTING: Final = "exporting to image"
_LAYERS: Final = "exporting layers"
_IGNORE: Final = "[internal] load .dockerignore"


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build.

    Attributes:
        dockerfile: its text.
        dockerfile_name: how messages call it.
        context: directory to copy from.
        ignore: the context's rules.
        ignore_size: bytes of the file they come from; 0 for none.
        owners: the record of modes in the context that the disk does not hold.
        platforms: builder and target.
        target: stage to build, "" for the last.
        build_args: `--build-arg`.
        no_cache: run everything.
        defaults: for RUN steps.
        export: what the image is to be.
        source_date_epoch: seconds; replaces every time that the build would record or give to files.
        parallel: how many steps may run at once.
    """

    dockerfile: bytes
    context: str
    platforms: Platforms
    dockerfile_name: str = "Dockerfile"
    ignore: IgnoreMatcher | None = None
    ignore_size: int = 0
    owners: Owners | None = None
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    defaults: RunDefaults = field(default_factory=RunDefaults)
    export: ImageExport = field(default_factory=ImageExport)
    source_date_epoch: int | None = None
    parallel: int = 8


@dataclass(frozen=True, slots=True)
class Built:
    """What a build gave.

    Attributes:
        image: as the store has it.
        warnings: on the Dockerfile.
        unconsumed: build arguments that nothing declares (D37).
        dockerfile: as parsed, for the warnings' excerpts.
    """

    image: ImageRecord
    warnings: tuple[LintWarning, ...]
    unconsumed: tuple[str, ...]
    dockerfile: Dockerfile


class BuildFailed(Invalid):
    """A step failed; what it wrote last and where the Dockerfile asks for it come along (D49).

    Attributes:
        step: the step's name in the transcript, "" when none had begun.
        output: the end of what it wrote.
        excerpt: the marked lines of the Dockerfile, "" when unknown.
        cause: the failure itself.
    """

    def __init__(self, cause: BaseException, step: str, output: str, excerpt: str) -> None:
        message = cause.message if isinstance(cause, LaminaError) else str(cause)
        super().__init__(f"failed to solve: {message}", hint=cause.hint if isinstance(cause, LaminaError) else None)
        self.cause, self.step, self.output, self.excerpt = cause, step, output, excerpt


class Builder:
    """Builds images in one store.

    Args:
        store: where trees, cache and images are.
        runner: runs commands.
        resolve: answers which image a name means; pulls it when need be.
    """

    def __init__(self, store: Store, runner: Runner, resolve: ImageResolver) -> None:
        self._store, self._runner, self._resolve = store, runner, resolve

    def build(self, request: BuildRequest, sink: BuildSink, cancelled: threading.Event | None = None) -> Built:
        """Build an image.

        Raises:
            BuildFailed: a step, or the Dockerfile, failed; nothing was tagged, and the steps that succeeded are cached.
            Cancelled: `cancelled` was set.
        """
        transcript = Transcript(sink)
        dockerfile: Dockerfile | None = None
        try:
            definition = f"[internal] load build definition from {request.dockerfile_name}"
            with _vertex(sink, definition):
                sink(VertexProgress(definition, "transferring dockerfile:", len(request.dockerfile), done=True))
                if not request.dockerfile:
                    raise DockerfileError("the Dockerfile cannot be empty")
                dockerfile = parse(request.dockerfile, request.dockerfile_name)
                linter = linter_for(dockerfile, request.build_args.get("BUILDKIT_DOCKERFILE_CHECK", ""))
                check_file(dockerfile, linter)
                graph = _bind(dockerfile, request, linter)
            plan = make_plan(graph, self._resolve, defaults=request.defaults, linter=linter, ignore=request.ignore)
            linter.check()
            with _vertex(sink, _IGNORE):
                # Without rules BuildKit still moves two bytes.
                sink(VertexProgress(_IGNORE, "transferring context:", request.ignore_size or 2, done=True))
            with self._store.lease("build") as lease:
                image = self._solve(request, plan, transcript, sink, lease, cancelled)
        except VertexFailed as failure:
            raise self._failure(failure, transcript, dockerfile) from failure.cause
        except DockerfileError as error:
            raise BuildFailed(error, "", "", error.excerpt()) from error
        except (Cancelled, BuildFailed):
            raise
        except LaminaError as error:
            raise BuildFailed(error, "", "", "") from error
        unused = unconsumed(dockerfile.instructions, request.build_args.keys() - plan.arguments)
        return Built(image, tuple(linter.warnings), tuple(unused), dockerfile)

    def _solve(
        self,
        request: BuildRequest,
        plan: Plan,
        transcript: Transcript,
        sink: BuildSink,
        lease: Lease,
        cancelled: threading.Event | None,
    ) -> ImageRecord:
        store = self._store
        digests = StatCache(store.db, request.context)
        cache = LocalCache(store.db)
        seconds = CONTEXT_TIME if request.source_date_epoch is None else request.source_date_epoch
        means = Means(
            trees=StoreTrees(store.snapshots, lease, store.reserve),
            runner=self._runner,
            snapshot_of=lambda chain_id: store.layers.get(chain_id).snapshot,
            open_context=lambda: SourceTree(request.context, request.ignore, request.owners),
            digests=digests,
            time_ns=seconds * 10**9,
            context_copies=_context_copies(plan.tree),
        )
        diff_ids = LayerDigests(store)
        layers = _spine(plan.tree)

        def made(vertex: Vertex, result: Result) -> None:
            """Start hashing a layer of the image while later steps run; other stages' trees are nobody's layers."""
            if vertex.digest in layers and isinstance(result, Tree) and result.snapshot is not None:
                diff_ids.start(result.snapshot)

        scheduler: Scheduler[Result] = Scheduler(
            means.operation,
            cache,
            transcript,
            parallel=request.parallel,
            use_cache=not request.no_cache,
            cancelled=cancelled,
            made=made,
        )
        try:
            solved = scheduler.solve([plan.tree])[0]
            assert isinstance(solved.result, Tree)
            with _vertex(sink, _EXPORTING):
                how = ExportMeans(means.trees, diff_ids, cache)
                sink(VertexProgress(_EXPORTING, _LAYERS))
                image = export_image(
                    store, how, plan, solved.result, request.export, lease, lambda made: self._writing(sink, made)
                )
                sink(VertexProgress(_EXPORTING, f"writing image {image.id}", done=True))
                for tag in request.export.tags:
                    sink(VertexProgress(_EXPORTING, f"naming to {tag}", done=True))
        except BaseException:
            # The steps that succeeded need not run again; but why this one failed matters more than that.
            with suppress(LaminaError):
                self._keep(diff_ids, digests, cache)
            raise
        self._keep(diff_ids, digests, cache)
        return image

    @staticmethod
    def _writing(sink: BuildSink, image: Digest) -> None:
        sink(VertexProgress(_EXPORTING, _LAYERS, done=True))
        sink(VertexProgress(_EXPORTING, f"writing image {image}"))

    def _keep(self, diff_ids: LayerDigests, digests: StatCache, cache: LocalCache) -> None:
        """Make what was learned durable, trees before the records that name them."""
        diff_ids.drain()
        digests.flush()
        self._store.snapshots.sync()
        cache.flush()

    def _failure(self, failure: VertexFailed, transcript: Transcript, dockerfile: Dockerfile | None) -> LaminaError:
        if isinstance(failure.cause, Cancelled):
            return failure.cause
        vertex = failure.vertex
        excerpt = ""
        if dockerfile is not None and isinstance(vertex.origin, Range):
            excerpt = dockerfile.source.excerpt(vertex.origin)
        return BuildFailed(failure.cause, vertex.name, transcript.tail(vertex), excerpt)


def _spine(tree: Vertex) -> frozenset[Digest]:
    """The vertices whose trees become layers: the target's own line of steps, down to its base."""
    found = [tree.digest]
    while tree.inputs:
        tree = tree.inputs[0]
        found.append(tree.digest)
    return frozenset(found)


def _context_copies(tree: Vertex) -> tuple[Copy, ...]:
    """The copies that read the build context, in the order of the graph."""
    return tuple(
        vertex.op
        for vertex in walk([tree])
        if isinstance(vertex.op, Copy) and isinstance(vertex.inputs[1].op, ContextTree)
    )


def _bind(dockerfile: Dockerfile, request: BuildRequest, linter: Linter) -> Graph:
    return bind(
        stages(dockerfile), request.platforms, target=request.target, build_args=request.build_args, linter=linter
    )


@contextmanager
def _vertex(sink: BuildSink, name: str) -> Iterator[None]:
    """A part of the build that is no vertex of the graph, shown like one."""
    sink(VertexStarted(name, name))
    try:
        yield
    except BaseException as error:
        sink(VertexDone(name, error=str(error), canceled=isinstance(error, Cancelled)))
        raise
    sink(VertexDone(name))


def epoch_text(seconds: int | None) -> str:
    """SOURCE_DATE_EPOCH as image documents write times; "" for None."""
    return "" if seconds is None else rfc3339(datetime.fromtimestamp(seconds, UTC))
