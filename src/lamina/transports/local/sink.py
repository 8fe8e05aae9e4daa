"""The local store as a sink: layers are unpacked while they arrive, then image and names appear as one step (S14)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final

from lamina.errors import Unsupported
from lamina.image.mutate import config_bytes
from lamina.image.partial import MadeImage
from lamina.image.protocols import Capabilities, Image, Layer, Readable, ResumableLayer
from lamina.image.verify import read_document
from lamina.progress import ProgressSink
from lamina.spec import mediatype
from lamina.spec.config import ImageConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.document import MAX_DOCUMENT
from lamina.spec.manifest import Index, Manifest
from lamina.spec.platform import Platform, best
from lamina.spec.reference import Reference
from lamina.store.leases import Lease
from lamina.store.pipeline import CannotResume, Fetched, LayerSource
from lamina.store.store import Store

_CHUNK: Final = 1 << 18
_TYPES: Final = mediatype.MANIFESTS | mediatype.INDEXES


class NotAnImage(Unsupported):
    """The manifest is an artifact (a chart, a signature), which the image store does not hold."""

    def __init__(self, manifest: Manifest) -> None:
        kind = manifest.artifact_type or manifest.config.media_type
        super().__init__(f"{manifest.digest} is no container image but an artifact of type {kind}")
        self.manifest = manifest


def is_image(manifest: Manifest) -> bool:
    """Whether a manifest describes a root file system; BuildKit's attestations look like images and are none."""
    layers = all(mediatype.is_layer(layer.media_type) for layer in manifest.layers)
    return manifest.config.media_type in mediatype.CONFIGS and layers


class LocalSink:
    """The store as a sink, for one name.

    Args:
        store: where to.
        lease: holds what arrives until the name does.
        names: tags that shall point at the image in the end.
        pulled_as: the registry reference it comes from, which becomes its RepoDigest; None for a loaded archive.
        platform: which image of a whole index the names shall run as.
        jobs: layers that are fetched at once.
    """

    def __init__(
        self,
        store: Store,
        lease: Lease,
        *,
        names: Sequence[Reference] = (),
        pulled_as: Reference | None = None,
        platform: Platform | None = None,
        jobs: int = 3,
    ) -> None:
        self._store, self._lease, self._names, self._pulled_as = store, lease, tuple(names), pulled_as
        self._platform, self._jobs = platform, jobs
        self._configs: dict[Digest, ImageConfig] = {}
        self._manifests: dict[Digest, Manifest] = {}
        self._made_up: set[Digest] = set()
        self._artifacts: dict[Digest, Image] = {}

    @property
    def capabilities(self) -> Capabilities:
        """Everything that is an image."""
        return Capabilities(_TYPES, foreign_layers=True, parallel_blobs=self._jobs)

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether the blob is stored; then it is held."""
        return self._store.blobs.hold(blob.digest, lease=self._lease) is not None

    def mount_blob(self, blob: Descriptor, source: object) -> bool:  # noqa: ARG002
        """The store knows blobs by digest alone, so there is nothing to mount."""
        return False

    def put_layers(self, image: Image, report: ProgressSink, cancel: threading.Event) -> None:
        """Fetch, verify and unpack all layers; what is here already is not fetched, what was begun is continued.

        An artifact's are fetched once it is clear that an index brings it, and never unpacked.
        """
        manifest = image.manifest
        if not is_image(manifest):
            self._artifacts[manifest.digest] = image
            return
        if isinstance(image, MadeImage) and not image.published:
            # Nobody published this manifest: `docker save` has none. A push makes one, of compressed layers.
            self._made_up.add(manifest.digest)
        self._configs[manifest.config.digest] = ImageConfig.parse(config_bytes(image))
        sources = [LayerSource(layer.diff_id, layer.descriptor, _fetch(layer)) for layer in image.layers]
        self._store.unpacker.ensure(sources, lease=self._lease, report=report, cancelled=cancel, jobs=self._jobs)

    def put_blob(self, blob: Descriptor, open_: Callable[[], Readable], report: ProgressSink) -> None:  # noqa: ARG002
        """Store a config."""
        raw = read_document(open_(), blob, f"blob {blob.digest}", limit=MAX_DOCUMENT)
        self._store.blobs.put(raw, lease=self._lease)

    def put_manifest(self, manifest: Manifest | Index, *, named: bool) -> None:
        """Store an image or an index; the named one gets the names in the same step.

        Raises:
            NotAnImage: the named manifest is an artifact. Those of an index (attestations) are kept with it.
        """
        if isinstance(manifest, Index):
            self._store.images.put_index(manifest, lease=self._lease)
            if named:
                self._name(self._serving(manifest), manifest.digest)
            return
        if not is_image(manifest):
            if named:
                raise NotAnImage(manifest)
            self._put_artifact(manifest)
            return
        self._manifests[manifest.digest] = manifest
        if named:
            self._name(manifest, manifest.digest)
        else:
            self._put(manifest)

    def _name(self, manifest: Manifest, target: Digest) -> None:
        digests = [(self._pulled_as.repository, target)] if self._pulled_as else []
        self._store.images.put(
            self._configs[manifest.config.digest],
            manifest=self._published(manifest),
            tags=self._names,
            target=None if target in self._made_up else target,
            digests=digests,
            lease=self._lease,
        )

    def _put(self, manifest: Manifest) -> None:
        config = self._configs[manifest.config.digest]
        self._store.images.put(config, manifest=self._published(manifest), lease=self._lease)

    def _put_artifact(self, manifest: Manifest) -> None:
        for layer in self._artifacts[manifest.digest].layers:
            blob = layer.descriptor
            if mediatype.is_foreign(blob.media_type):
                continue
            with self._store.blobs.ingest(blob.digest, size=blob.size, lease=self._lease) as writer:
                if writer is not None:
                    writer.restart()
                    with closing(layer.open()) as stream:
                        while data := stream.read(_CHUNK):
                            writer.write(data)
                    writer.commit()
        self._store.images.put_artifact(manifest, lease=self._lease)

    def _published(self, manifest: Manifest) -> Manifest | None:
        return None if manifest.digest in self._made_up else manifest

    def _serving(self, index: Index) -> Manifest:
        """The image that an index's name runs as here."""
        held = [entry for entry in index.manifests if entry.digest in self._manifests]
        if not held:
            raise Unsupported(f"index {index.digest} holds no image")
        position = None
        if self._platform is not None:
            offered = [entry.platform or Platform("", "") for entry in held]
            position = best(self._platform, offered)
        return self._manifests[held[position or 0].digest]


def _fetch(layer: Layer) -> Callable[[int], Fetched]:
    """Opens the layer anywhere it can; the store verifies the whole."""

    def fetch(offset: int) -> Fetched:
        if isinstance(layer, ResumableLayer):
            return layer.open_at(offset)
        if offset:
            raise CannotResume("this source starts at the beginning")
        return layer.open()

    return fetch
