"""The one way images move: from any source to any sink (design.md, sections 1.3 and 3).

`copy` negotiates with the sink's capabilities, sends blobs in parallel (there already? mountable? else upload), then
the manifests bottom-up and the named one last, so that no reader ever sees a manifest whose parts are missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Final, Literal

from lamina.errors import Cancelled, Integrity, Invalid, LaminaError, LimitExceeded, NotFound, Unsupported
from lamina.image.mutate import choose, config_bytes, convert
from lamina.image.openers import BytesOpener, LayerOpener
from lamina.image.protocols import (
    Capabilities,
    Image,
    ImageIndex,
    Layer,
    LayersSink,
    PendingLayer,
    Readable,
    Sink,
    StreamSink,
    is_index,
)
from lamina.progress import Progress, ProgressSink, discard
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.reference import Repository
from lamina.values import dataclass, field, replace

#: Real indexes nest once, rarely twice; the caps end hostile ones (threat 13).
MAX_DEPTH: Final = 8
MAX_MANIFESTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Words:
    """What a copy says about each layer, in Docker's words; `by_diff_id` names layers as `docker push` does."""

    prepare: str
    exists: str
    done: str
    waiting: str = "Waiting"
    by_diff_id: bool = False


PUSH: Final = Words("Preparing", "Layer already exists", "Pushed", by_diff_id=True)
PULL: Final = Words("Pulling fs layer", "Already exists", "Pull complete")


def nowhere(_blob: Descriptor) -> Sequence[Repository]:
    """Mount sources of a caller that knows none."""
    return ()


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """What to copy and how.

    Attributes:
        platform: take one image out of an index; None takes everything.
        keep_index: with `platform`, store the index above the chosen image too, without its other children.
        missing: what to do about children that the source does not hold; `skip` leaves the index as it is.
        mount_sources: repositories on the sink's registry that may hold a blob already.
        words: vocabulary of the progress events.
        parallel: blobs at once, at most what the sink allows; None for that maximum.
        preserve_digests: fail rather than convert media types for a sink that cannot take them.
    """

    platform: Platform | None = None
    keep_index: bool = False
    missing: Literal["fail", "skip"] = "fail"
    mount_sources: Callable[[Descriptor], Sequence[Repository]] = nowhere
    words: Words = PUSH
    parallel: int | None = None
    preserve_digests: bool = False


class NeedsPlatform(Unsupported):
    """The sink holds single images and the source is an index."""

    def __init__(self, platforms: Sequence[Platform]) -> None:
        super().__init__("the target cannot hold a multi-platform image", hint="choose one with --platform")
        self.platforms = tuple(platforms)


class TypeNotAccepted(Unsupported):
    """The sink does not take the manifest's media type and converting it was forbidden or impossible."""

    def __init__(self, media_type: str, accepted: Iterable[str]) -> None:
        super().__init__(f"the target does not accept {media_type}; it takes {', '.join(sorted(accepted))}")
        self.media_type = media_type


def copy(
    source: Image | ImageIndex,
    sink: Sink,
    options: CopyOptions | None = None,
    *,
    report: ProgressSink = discard,
    cancel: threading.Event | None = None,
) -> Descriptor:
    """Copy an image or an index.

    Args:
        source: what to copy.
        sink: where to; its name (tag) moves to the copied manifest at the very end.
        options: see `CopyOptions`.
        report: receives progress, from several threads.
        cancel: set by the caller to stop soon; what was stored stays unnamed.

    Returns:
        The descriptor of the manifest that was named: of the index, unless `platform` chose an image without it.

    Raises:
        PlatformNotFound, NeedsPlatform, TypeNotAccepted: it cannot be done as asked.
        LimitExceeded: an index nests too deeply or holds too much (threat 13).
        Integrity: bytes did not match their digest; nothing was named.
        Cancelled: `cancel` was set.
    """
    options = options or CopyOptions()
    plan = _plan(source, sink.capabilities, options)
    _Transfer(plan, sink, options, report, cancel or threading.Event()).run()
    named = plan.order[-1]
    for content in plan.order:
        document = content.index if is_index(content) else content.manifest
        sink.put_manifest(document, named=content is named)
    return named.index.descriptor if is_index(named) else named.manifest.descriptor


@dataclass(slots=True)
class _Plan:
    """Contents in the order their manifests are put: children first, the named one last."""

    order: list[Image | ImageIndex] = field(default_factory=list)
    seen: set[Digest] = field(default_factory=set)

    def images(self) -> list[Image]:
        return [content for content in self.order if not is_index(content)]


def _plan(source: Image | ImageIndex, accepts: Capabilities, options: CopyOptions) -> _Plan:
    plan = _Plan()
    chain: list[ImageIndex] = []
    content = source
    if is_index(content) and options.platform is None and not accepts.indexes:
        images = content.index.images()
        if len(images) != 1:
            raise NeedsPlatform([image.platform for image in images if image.platform])
        content = content.child(images[0])
    while is_index(content) and options.platform is not None:
        if len(chain) >= MAX_DEPTH:
            raise LimitExceeded(f"index nests deeper than {MAX_DEPTH} levels")
        chain.append(content)
        content = content.child(choose(content, options.platform))
    if chain and options.keep_index and accepts.indexes:
        plan.order = [content, *reversed(chain)]
        return plan
    _walk(_accepted(content, accepts, options), plan, options, 0)
    return plan


def _accepted(content: Image | ImageIndex, accepts: Capabilities, options: CopyOptions) -> Image | ImageIndex:
    """The content in media types that the sink takes. An image of pending layers is asked for nothing."""
    if not is_index(content) and any(_is_pending(layer) for layer in content.layers):
        return content
    kind = content.index.media_type if is_index(content) else content.manifest.media_type
    if kind in accepts.manifest_types:
        return content
    docker = kind in {mediatype.OCI_MANIFEST, mediatype.OCI_INDEX}
    converted = None if options.preserve_digests else convert(content, docker=docker)
    if converted is not None:
        now = converted.index.media_type if is_index(converted) else converted.manifest.media_type
        if now in accepts.manifest_types:
            return converted
    raise TypeNotAccepted(kind, accepts.manifest_types)


def _walk(content: Image | ImageIndex, plan: _Plan, options: CopyOptions, depth: int) -> None:
    if is_index(content):
        if depth >= MAX_DEPTH:
            raise LimitExceeded(f"index nests deeper than {MAX_DEPTH} levels")
        for entry in content.index.manifests:
            if entry.digest in plan.seen:
                continue
            plan.seen.add(entry.digest)
            if len(plan.seen) > MAX_MANIFESTS:
                raise LimitExceeded(f"index holds more than {MAX_MANIFESTS} manifests")
            try:
                child = content.child(entry)
            except NotFound:
                if options.missing == "fail":
                    raise
                continue
            _walk(child, plan, options, depth + 1)
    plan.order.append(content)


@dataclass(slots=True)
class _Task:
    """One blob to bring over; `layer` is None for configs."""

    id: str
    layer: Layer | None
    descriptor: Descriptor | None
    open: Callable[[], Readable]


class _Transfer:
    """The parallel half of a copy: every blob of every image, once."""

    def __init__(
        self, plan: _Plan, sink: Sink, options: CopyOptions, report: ProgressSink, cancel: threading.Event
    ) -> None:
        self.plan, self.sink, self.options, self.report, self.cancel = plan, sink, options, report, cancel
        self.accepts = sink.capabilities
        self.stop = threading.Event()
        self.parallel = max(1, min(options.parallel or self.accepts.parallel_blobs, self.accepts.parallel_blobs))
        self.seen: set[Digest] = set()

    def run(self) -> None:
        images = self.plan.images()
        if isinstance(self.sink, LayersSink):
            for image in images:
                self._check()
                self.sink.put_layers(image, self.report, self.cancel)
            self._all(self._configs(images))
            return
        layers = [task for image in images for task in self._layers(image)]
        for position, task in enumerate(layers):
            self._say(task, self.options.words.prepare)
            if position >= self.parallel:
                self._say(task, self.options.words.waiting)
        complete = [image for image in images if not any(_is_pending(layer) for layer in image.layers)]
        drafts = [image for image in images if image not in complete]
        self._all([*layers, *self._configs(complete)])
        self._all(self._configs(drafts))

    def _layers(self, image: Image) -> list[_Task]:
        tasks = []
        for layer in image.layers:
            if isinstance(layer, PendingLayer) and layer.is_pending() and isinstance(self.sink, StreamSink):
                tasks.append(_Task(self._id(layer), layer, None, layer.stream))
                continue
            task = self._known(layer)
            if task is not None:
                tasks.append(task)
        return tasks

    def _known(self, layer: Layer) -> _Task | None:
        descriptor = layer.descriptor
        if mediatype.is_foreign(descriptor.media_type) and not self.accepts.foreign_layers:
            return None
        if descriptor.digest in self.seen:
            return None
        self.seen.add(descriptor.digest)
        return _Task(self._id(layer), layer, descriptor, LayerOpener.of(layer, self._check))

    def _configs(self, images: list[Image]) -> list[_Task]:
        tasks = []
        for image in images:
            config = image.manifest.config
            if config.digest not in self.seen:
                self.seen.add(config.digest)
                tasks.append(_Task("", None, config, BytesOpener(lambda image=image: config_bytes(image))))  # type: ignore[misc]
        return tasks

    def _id(self, layer: Layer) -> str:
        if self.options.words.by_diff_id:
            try:
                return layer.diff_id.short
            except LaminaError:  # an artifact: its config knows no diffIDs
                pass
        return layer.descriptor.digest.short

    def _all(self, tasks: list[_Task]) -> None:
        """Run tasks on a bounded pool; the first failure stops the others and is the one raised."""
        if not tasks:
            return
        pool = ThreadPoolExecutor(min(self.parallel, len(tasks)), "lamina-copy")
        futures: list[Future[None]] = [pool.submit(self._one, task) for task in tasks]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            _raise_first(futures)
        finally:
            self.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
        self.stop.clear()

    def _check(self) -> None:
        if self.cancel.is_set() or self.stop.is_set():
            raise Cancelled("the copy was cancelled")

    def _one(self, task: _Task) -> None:
        self._check()
        words = self.options.words
        if task.descriptor is None:
            self._stream(task)
            self._say(task, words.done, final=True)
        elif self.sink.has_blob(task.descriptor):
            self._say(task, words.exists, final=True)
        elif (origin := self._mounted(task.descriptor)) is not None:
            self._say(task, f"Mounted from {origin.path}", final=True)
        else:
            self.sink.put_blob(task.descriptor, task.open, self._scoped(task))
            self._say(task, words.done, final=True)

    def _stream(self, task: _Task) -> None:
        if not isinstance(self.sink, StreamSink) or task.layer is None:
            raise Invalid("a blob without a digest needs a sink that takes streams")
        sent = self.sink.put_stream(task.open, self._scoped(task))
        made = task.layer.descriptor
        if (sent.digest, sent.size) != (made.digest, made.size):
            raise Integrity(f"layer {task.id}: sent {sent.digest}, but made {made.digest}")

    def _mounted(self, blob: Descriptor) -> Repository | None:
        for origin in self.options.mount_sources(blob):
            if self.sink.mount_blob(blob, origin):
                return origin
        return None

    def _scoped(self, task: _Task) -> ProgressSink:
        return (lambda event: self.report(replace(event, id=task.id))) if task.layer is not None else discard

    def _say(self, task: _Task, status: str, *, final: bool = False) -> None:
        if task.layer is not None:
            self.report(Progress(task.id, status, final=final))


def _is_pending(layer: Layer) -> bool:
    return isinstance(layer, PendingLayer) and layer.is_pending()


def _raise_first(futures: list[Future[None]]) -> None:
    failures = [error for future in futures if future.done() and (error := future.exception()) is not None]
    real = [error for error in failures if not isinstance(error, Cancelled)]
    for error in real or failures:
        raise error
