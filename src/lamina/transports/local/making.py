"""Makes the blob of a layer that was built here: tar from its snapshot, fast gzip, kept while it is sent."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import closing
from typing import Final

from lamina.layer.compression import Compression, compressor
from lamina.layer.digesting import HashingWriter
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.mediatype import layer_type
from lamina.store.packing import pack_layer
from lamina.store.pipe import Pipe
from lamina.store.pipeline import DiffIdMismatch
from lamina.store.store import Store

_CHUNK: Final = 1 << 18


class BlobInTheMaking:
    """A layer's blob as a stream; read to its end it is a blob of the store, and `descriptor` says which.

    The tar is packed, hashed and compressed in a thread of its own; the reader's thread hashes and keeps the result.

    Args:
        store: where the layer is.
        diff_id: of the layer.
        snapshot: key of the snapshot that holds it.
        compression: of the blob.
        tar: the layer's tar, when it is stored as it is: another program's archive is rarely what we would write.
    """

    def __init__(
        self, store: Store, diff_id: Digest, snapshot: str, compression: Compression, tar: Descriptor | None = None
    ) -> None:
        self._store, self._diff_id, self._snapshot, self._compression = store, diff_id, snapshot, compression
        self._tar = tar
        self._pipe = Pipe()
        self._writer = store.blobs.writer()
        self._size = 0
        self.descriptor: Descriptor | None = None
        self._made: Future[Digest] = Future()
        self._thread = threading.Thread(target=self._make, name="pack-layer", daemon=True)
        self._thread.start()

    def _make(self) -> None:
        try:
            packed = compressor(self._compression, self._put)
            content = HashingWriter(packed.write)
            if self._tar is None:
                pack_layer(self._store.snapshots.changes(self._snapshot), content.write)
            else:
                with closing(self._store.blobs.open(self._tar.digest)) as file:
                    while data := file.read(_CHUNK):
                        content.write(data)
            packed.close()
            actual = Digest("sha256", content.digest)
            if actual != self._diff_id:
                # What is unpacked here does not make the same tar again, so its old blob is needed and gone.
                raise DiffIdMismatch(self._diff_id, self._diff_id, actual)
            self._pipe.end()
        except BaseException as error:
            self._pipe.fail(error)

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            self._pipe.write(bytes(data))

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; the read that returns b"" has stored the blob.

        Raises:
            DiffIdMismatch: the snapshot is not the layer that the image's config names.
            StoreFull, StoreIOFailed: the disk refuses.
        """
        if self.descriptor is not None:
            return b""
        data = self._pipe.read(_CHUNK if size < 0 else size)
        if data:
            self._writer.write(data)
            self._size += len(data)
            return data
        digest = self._writer.commit()
        made = Descriptor(layer_type(compression=self._compression.value), digest, self._size)
        self._store.layers.add_blob(self._diff_id, made)
        self.descriptor = made
        return b""

    def close(self) -> None:
        """Stop; what is incomplete is dropped."""
        self._pipe.close()
        self._thread.join()
        if self.descriptor is None:
            self._writer.cancel()
        self._writer.close()
