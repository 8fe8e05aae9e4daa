"""Layers with every kind of entry, sources that count and misbehave, and a whole pull in one call, for store tests."""

from __future__ import annotations

import gzip
import io
import tarfile
import threading
from collections.abc import Callable, Iterable, Mapping

from lamina.progress import ProgressSink, discard
from lamina.spec import mediatype
from lamina.spec.config import ImageConfig, RunConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.document import dumps
from lamina.spec.manifest import Manifest, parse_manifest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference
from lamina.store.pipeline import CannotResume, LayerSource
from lamina.store.records import ImageRecord
from lamina.store.store import Store
from lamina.values import dataclass, field

Entry = tuple[str, bytes | str | int]
"""A file with content, a symbolic link to a target, a hard link (`=target`), or a directory with a mode."""


def tar(*entries: Entry) -> bytes:
    """An uncompressed archive; everything belongs to root and is of time 0."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, what in entries:
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            if isinstance(what, bytes):
                info.size = len(what)
                archive.addfile(info, io.BytesIO(what))
                continue
            if isinstance(what, int):
                info.type, info.mode = tarfile.DIRTYPE, what
            elif what.startswith("="):
                info.type, info.linkname = tarfile.LNKTYPE, what[1:]
            else:
                info.type, info.linkname = tarfile.SYMTYPE, what
            archive.addfile(info)
    return out.getvalue()


@dataclass
class Served:
    """A layer as a registry would serve it.

    Attributes:
        content: the archive.
        blob: its compressed bytes.
        offsets: where each fetch started.
        sent: bytes handed out in all.
        resumable: whether it can start in the middle.
        fail_at: the first fetch breaks after so many bytes; None for never.
        before: called with the bytes sent so far before each piece.
    """

    content: bytes
    blob: bytes = b""
    offsets: list[int] = field(default_factory=list)
    sent: int = 0
    resumable: bool = True
    fail_at: int | None = None
    piece: int = 1 << 16
    before: Callable[[int], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.blob = self.blob or gzip.compress(self.content, 1, mtime=0)

    @property
    def descriptor(self) -> Descriptor:
        """Of the blob."""
        return Descriptor(mediatype.OCI_LAYER_GZIP, Digest.of(self.blob), len(self.blob))

    @property
    def diff_id(self) -> Digest:
        """Of the archive."""
        return Digest.of(self.content)

    def source(self) -> LayerSource:
        """What the unpacker is given."""
        return LayerSource(self.diff_id, self.descriptor, self.fetch)

    def fetch(self, offset: int) -> Piecewise:
        """Opens the blob."""
        if offset and not self.resumable:
            raise CannotResume("this source starts at the beginning")
        self.offsets.append(offset)
        fail_at, self.fail_at = self.fail_at, None
        return Piecewise(self, offset, fail_at)

    def count(self, size: int) -> None:
        """Notes bytes handed out."""
        with self._lock:
            self.sent += size


class Piecewise:
    """A stream of a `Served` blob."""

    def __init__(self, served: Served, offset: int, fail_at: int | None) -> None:
        self._served, self._position, self._fail_at = served, offset, fail_at

    def read(self, size: int = -1, /) -> bytes:
        """At most one piece."""
        served = self._served
        if served.before is not None:
            served.before(self._position)
        if self._fail_at is not None and self._position >= self._fail_at:
            raise ConnectionResetError("the peer went away")
        size = served.piece if size < 0 else min(size, served.piece)
        if self._fail_at is not None:
            size = min(size, self._fail_at - self._position)
        data = served.blob[self._position : self._position + size]
        self._position += len(data)
        served.count(len(data))
        return data

    def close(self) -> None:
        """Nothing to release."""


def config_of(layers: Iterable[Served], **labels: str) -> ImageConfig:
    """A config for these layers; labels make it a different image."""
    return ImageConfig.make(
        platform=Platform("linux", "amd64"),
        config=RunConfig(cmd=("/bin/true",), labels=labels),
        diff_ids=tuple(layer.diff_id for layer in layers),
        created="2020-01-01T00:00:00Z",
    )


def manifest_of(config: ImageConfig, layers: Iterable[Served]) -> Manifest:
    """An OCI manifest, spelled with blanks so that a re-serialisation would show."""
    document = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_MANIFEST,
        "config": Descriptor.of(mediatype.OCI_CONFIG, config.raw).to_json(),
        "layers": [layer.descriptor.to_json() for layer in layers],
    }
    made = parse_manifest(dumps(document).replace(b'":', b'" : '), mediatype.OCI_MANIFEST)
    if not isinstance(made, Manifest):
        raise TypeError("a manifest was wanted")
    return made


def pull(
    store: Store,
    layers: list[Served],
    *names: str,
    report: ProgressSink = discard,
    jobs: int = 3,
    labels: Mapping[str, str] | None = None,
) -> ImageRecord:
    """Everything a pull does with the store: layers, config, manifest, names."""
    config = config_of(layers, **(labels or {}))
    manifest = manifest_of(config, layers)
    references = [Reference.parse(name) for name in names]
    with store.lease("pull") as lease:
        store.unpacker.ensure([layer.source() for layer in layers], lease=lease, report=report, jobs=jobs)
        return store.images.put(
            config,
            manifest=manifest,
            tags=references,
            digests=[(reference.repository, manifest.digest) for reference in references],
            lease=lease,
        )
