"""Manifests of a repository: kept byte for byte, checked before they are taken, verified before they are served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lamina.errors import Invalid, LimitExceeded, Unsupported
from lamina.registry.cache import BytesCache
from lamina.registry.config import RegistryConfig
from lamina.registry.content import Content
from lamina.registry.errors import (
    DamagedContent,
    DeleteDisabled,
    DigestMismatch,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    NameUnknown,
    SizeMismatch,
)
from lamina.registry.metadata.protocol import ManifestRecord, Metadata, References
from lamina.registry.names import Repository, Tag
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Index, Manifest, parse_manifest
from lamina.store.backends.driver import BlobNotFound
from lamina.values import dataclass

#: Longer media types and artifact types are refused; RFC 6838 allows 127 + 1 + 127.
_MAX_TYPE: Final = 255


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it was pushed."""

    record: ManifestRecord
    data: bytes


class Manifests:
    """Read, store and delete. Synchronous and thread-safe."""

    def __init__(self, config: RegistryConfig, metadata: Metadata, content: Content) -> None:
        self._config, self._metadata, self._content = config, metadata, content
        self._bytes = BytesCache(config.cache_bytes)

    def get(self, repository: Repository, reference: Tag | Digest) -> StoredManifest:
        """The manifest under a tag or digest.

        Raises:
            NameUnknown: nothing was ever stored under the name.
            ManifestUnknown: the repository has no such manifest.
            DamagedContent: its bytes are lost or damaged; they were put aside (F20).
        """
        record = self._metadata.manifest(repository, reference)
        if record is None:
            if not self._metadata.has_repository(repository):
                raise NameUnknown(repository)
            raise ManifestUnknown(repository, str(reference))
        return StoredManifest(record, self._load(record.digest))

    def _load(self, digest: Digest) -> bytes:
        cached = self._bytes.get(digest)
        if cached is not None:
            return cached
        try:
            with self._content.driver.open(digest) as stream:
                data = stream.read()
        except BlobNotFound:
            raise DamagedContent(digest) from None
        if Digest.of(data, digest.algorithm) != digest:
            self._content.verify(digest)
            raise DamagedContent(digest)
        self._bytes.put(digest, data)
        return data

    def put(
        self, repository: Repository, reference: Tag | Digest, media_type: str, data: bytes, tags: Sequence[Tag] = ()
    ) -> ManifestRecord:
        """Store a manifest; durable on return.

        Args:
            repository: where it goes.
            reference: the tag to point at it, or the digest that it must have.
            media_type: the request's Content-Type; "" when there was none.
            data: the bytes, kept as they are.
            tags: more tags to point at it.

        Raises:
            ManifestTooLarge: longer than `max_manifest_bytes`.
            ManifestInvalid: malformed, or of a kind that is not stored.
            DigestMismatch: `reference` is another digest.
            ManifestBlobUnknown: it refers to something that the repository does not hold.
            SizeMismatch: a blob has another size than the manifest says.
        """
        if len(data) > self._config.max_manifest_bytes:
            raise ManifestTooLarge(self._config.max_manifest_bytes)
        algorithm = reference.algorithm if isinstance(reference, Digest) else "sha256"
        digest = Digest.of(data, algorithm)
        if isinstance(reference, Digest) and digest != reference:
            raise DigestMismatch(reference, digest)
        document = _parse(data, media_type)
        record = _describe(document, digest)
        references = self._references(document)
        self._metadata.check_references(repository, references)
        lost = [blob for blob, size in references.blobs.items() if self._content.driver.size(blob) != size]
        if lost and references.blobs_required:
            raise ManifestBlobUnknown(repository, lost)
        self._content.put(digest, data)
        named = tags if isinstance(reference, Digest) else (reference, *tags)
        self._metadata.put_manifest(repository, record, references, named)
        return record

    def _references(self, document: Manifest | Index) -> References:
        if isinstance(document, Index):
            children = tuple(child.digest for child in document.manifests)
            return References(children=children, children_required=not self._config.sparse_indexes)
        blobs: dict[Digest, int] = {}
        foreign: list[Digest] = []
        for blob in document.blobs():
            if mediatype.is_foreign(blob.media_type):
                foreign.append(blob.digest)
            elif blobs.setdefault(blob.digest, blob.size) != blob.size:
                raise SizeMismatch(f"manifest gives two sizes for {blob.digest}")
        return References(blobs=blobs, foreign=foreign, blobs_required=not self._config.sparse_images)

    def delete(self, repository: Repository, reference: Tag | Digest) -> None:
        """Remove a tag, or a manifest with all its tags (R12).

        Raises:
            DeleteDisabled: by configuration.
            ManifestUnknown: the repository has no such tag or manifest.
        """
        if not self._config.delete_enabled:
            raise DeleteDisabled
        gone = (
            self._metadata.remove_manifest(repository, reference)
            if isinstance(reference, Digest)
            else self._metadata.remove_tag(repository, reference)
        )
        if not gone:
            raise ManifestUnknown(repository, str(reference))


def _parse(data: bytes, media_type: str) -> Manifest | Index:
    try:
        return parse_manifest(data, media_type or None)
    except (Invalid, Unsupported, LimitExceeded) as error:
        raise ManifestInvalid(error.message, hint=error.hint) from None


def _describe(document: Manifest | Index, digest: Digest) -> ManifestRecord:
    """The record of a parsed manifest; an image without artifactType takes its config's type (R11)."""
    config: Descriptor | None = document.config if isinstance(document, Manifest) else None
    artifact_type = document.artifact_type or (config.media_type if config else "")
    for text in (document.media_type, artifact_type):
        if len(text) > _MAX_TYPE:
            raise ManifestInvalid(f"media type of {len(text)} characters exceeds the limit of {_MAX_TYPE}")
    return ManifestRecord(
        digest=digest,
        media_type=document.media_type,
        size=len(document.raw),
        subject=document.subject.digest if document.subject else None,
        artifact_type=artifact_type,
        annotations=document.annotations,
    )
