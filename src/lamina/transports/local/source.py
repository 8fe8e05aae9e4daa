"""Images of the local store: pulled ones byte for byte, built ones with blobs made on demand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final

from lamina.errors import NotFound
from lamina.image.mutate import oci_type
from lamina.image.partial import BlobImage, BlobIndex, MadeImage, open_document
from lamina.image.protocols import Image, ImageIndex, MissingChild, Readable
from lamina.image.verify import VerifyingReader
from lamina.layer.compression import Compression
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Index, Manifest
from lamina.store.store import Store
from lamina.transports.local.making import BlobInTheMaking
from lamina.values import replace

_CHUNK: Final = 1 << 20


class LocalBlobs:
    """The store's blobs as a `BlobSource`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def open_blob(self, blob: Descriptor, offset: int = 0) -> Readable:
        """A blob from `offset` on; `BlobNotFound` when it is not here."""
        file = self._store.blobs.open(blob.digest)
        file.seek(offset)
        return file

    def read_manifest(self, child: Descriptor) -> bytes:
        """A manifest's bytes; `MissingChild` when the index is sparse here."""
        try:
            return self._store.blobs.read(child.digest)
        except NotFound:
            raise MissingChild(child) from None


class LocalLayer:
    """A layer of an image without a manifest: its blob is one that is known to unpack to it, or has yet to be made."""

    def __init__(self, store: Store, diff_id: Digest, chain_id: Digest, compression: Compression) -> None:
        self._store, self.diff_id, self._chain_id, self._compression = store, diff_id, chain_id, compression
        self._found: Descriptor | None = None

    def _here(self, *, packed: bool) -> Descriptor | None:
        """The oldest blob of the layer that is stored, compressed or not."""
        for blob in self._store.layers.blobs(self.diff_id):
            compressed = mediatype.layer_compression(blob.media_type) != "none"
            if compressed == packed and self._store.blobs.hold(blob.digest):
                return blob
        return None

    def _known(self) -> Descriptor | None:
        if self._found is None and (packed := self._here(packed=True)) is not None:
            self._found = replace(packed, media_type=oci_type(packed.media_type))
        return self._found

    def is_pending(self) -> bool:
        """Whether the blob has still to be made."""
        return self._known() is None

    @property
    def descriptor(self) -> Descriptor:
        """The blob; made and stored now when there is none yet."""
        known = self._known()
        if known is None:
            stream = self.stream()
            try:
                while stream.read(_CHUNK):
                    pass
            finally:
                stream.close()
            known = self._found = stream.descriptor
        if known is None:
            raise MissingChild(Descriptor(mediatype.OCI_LAYER, self.diff_id, 0))
        return known

    def stream(self) -> BlobInTheMaking:
        """The blob while it is made."""
        snapshot = self._store.layers.get(self._chain_id).snapshot
        tar = self._here(packed=False)
        return BlobInTheMaking(self._store, self.diff_id, snapshot, self._compression, tar)

    def open(self) -> Readable:
        """The blob's bytes, verified while read."""
        return VerifyingReader(self._store.blobs.open(self.descriptor.digest), self.descriptor)

    def open_at(self, offset: int) -> Readable:
        """The blob's bytes from `offset` on."""
        file = self._store.blobs.open(self.descriptor.digest)
        file.seek(offset)
        return file


class _BuiltImage(MadeImage):
    """An image whose manifest is written here, and kept once it was."""

    def __init__(self, store: Store, image: Digest, layers: Sequence[LocalLayer]) -> None:
        super().__init__(store.images.config(image), layers)
        self._store, self._image = store, image

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest; asking for it makes the blobs that are missing, and the next push finds it."""
        made = super().manifest
        self._store.images.put_manifest(made, self._image)
        return made


def open_image(
    store: Store,
    image: Digest,
    *,
    target: Digest | None = None,
    compression: Compression = Compression.GZIP,
) -> Image:
    """An image of the store by its id.

    Args:
        store: where it is.
        image: its id.
        target: the manifest it was pulled as, preferred over others that were made of the same config.
        compression: of layers whose blobs have to be made.

    Returns:
        the image with the manifest it came with when all of its blobs are here, so that a push after a pull is
        byte-identical; otherwise one whose manifest is written on demand.

    Raises:
        ImageNotFound: no such image.
    """
    store.images.get(image)
    manifests = sorted(store.images.manifests(image), key=lambda manifest: manifest.digest != target)
    for manifest in manifests:
        if all(store.blobs.hold(blob.digest) for blob in manifest.blobs() if not mediatype.is_foreign(blob.media_type)):
            return BlobImage(manifest, LocalBlobs(store))
    layers = [LocalLayer(store, diff_id, chain_id, compression) for diff_id, chain_id in store.images.layers(image)]
    return _BuiltImage(store, image, layers)


def open_manifest(store: Store, digest: Digest) -> Image | ImageIndex:
    """A manifest or index of the store by its own digest; children of an index may be missing (`MissingChild`).

    Raises:
        ImageNotFound: none is stored under this digest.
    """
    found = store.images.manifest(digest)
    if isinstance(found, Index):
        return BlobIndex(found, LocalBlobs(store))
    image = store.images.image_of(digest)
    if image is not None:
        return open_image(store, image, target=digest)
    return open_document(found.raw, found.media_type, LocalBlobs(store))
