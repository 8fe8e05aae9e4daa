"""A registry repository as a sink: HEAD, cross-repository mount, upload; then manifests and tags (S47, C09)."""

from __future__ import annotations

from collections.abc import Callable

from lamina.image.protocols import Capabilities, Readable
from lamina.progress import ProgressSink
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.distribution import CONTENT_DIGEST, OCI_SUBJECT
from lamina.spec.manifest import Index, Manifest
from lamina.spec.reference import Reference, Repository
from lamina.transports.remote.auth import LoginFailed, push_scope
from lamina.transports.remote.client import Client, Session
from lamina.transports.remote.failures import AccessDenied, LoginNeeded, Missing, NotOffered, Rejected
from lamina.transports.remote.origin import Url
from lamina.transports.remote.protocol import WrongManifest, digest_header, head_blob, mount, put_manifest
from lamina.transports.remote.referrers import add_to_fallback
from lamina.transports.remote.upload import Upload

ALL_TYPES = mediatype.MANIFESTS | mediatype.INDEXES
DOCKER_TYPES = frozenset({mediatype.DOCKER_MANIFEST, mediatype.DOCKER_INDEX})

_NOT_MOUNTABLE = (AccessDenied, LoginNeeded, LoginFailed, Missing, NotOffered, Rejected)


class ManifestTypeRefused(Rejected):
    """The registry refuses manifests of that media type (old ones know Docker's only)."""


class RemoteSink:
    """A repository to write to; the named manifest goes under `tag`, or by digest when there is none.

    Args:
        session: the registry.
        repository: where in it.
        tag: the name to move at the end, "" for none.
        accepts: manifest types that the registry takes.
        parallel: uploads at once.
    """

    def __init__(
        self,
        session: Session,
        repository: Repository,
        tag: str = "",
        *,
        accepts: frozenset[str] = ALL_TYPES,
        parallel: int = 5,
    ) -> None:
        self.session, self.repository, self.tag = session, repository, tag
        self._capabilities = Capabilities(accepts, parallel_blobs=parallel)
        self._upload = Upload(session, repository)
        self._pending: dict[str, Url] = {}

    @property
    def capabilities(self) -> Capabilities:
        """What the registry can take."""
        return self._capabilities

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether the repository holds the blob."""
        response = self.session.call(head_blob(self.repository, blob.digest, scope=push_scope(self.repository.path)))
        there = response.status == 200 and response.length in {None, blob.size}
        response.close()
        return there

    def mount_blob(self, blob: Descriptor, source: Repository) -> bool:
        """Adopt the blob from another repository of this registry."""
        if source.host != self.repository.host or source == self.repository:
            return False
        try:
            response = self.session.call(mount(self.repository, blob.digest, source))
        except _NOT_MOUNTABLE:
            return False  # not ours to read, or not here at all: an upload says whether we may write
        if response.status == 201:
            response.close()
            return True
        if response.header("Location"):
            # Not mounted, but an upload was begun for us: use it rather than leave it lying there.
            if (unused := self._pending.pop(str(blob.digest), None)) is not None:
                self._upload.cancel(unused)
            self._pending[str(blob.digest)] = self._upload.location(response)
        else:
            response.close()
        return False

    def put_blob(self, blob: Descriptor, open_: Callable[[], Readable], report: ProgressSink) -> None:
        """Upload the blob, verified on the way."""
        self._upload.send(blob, open_, report, self._pending.pop(str(blob.digest), None))

    def put_stream(self, open_: Callable[[], Readable], report: ProgressSink) -> Descriptor:
        """Upload bytes while they are made; returns their digest and size."""
        return self._upload.stream(open_, report)

    def put_manifest(self, manifest: Manifest | Index, *, named: bool) -> None:
        """Store a manifest; the named one under the tag.

        Raises:
            ManifestTypeRefused: the registry does not know its media type.
            WrongManifest: the registry says that it stored something else.
        """
        digest = manifest.digest
        identifier = self.tag if named and self.tag else str(digest)
        call = put_manifest(self.repository, identifier, manifest.media_type, manifest.raw)
        try:
            response = self.session.call(call)
        except Rejected as error:
            if error.answer.code in {"MANIFEST_INVALID", "UNSUPPORTED", ""} and error.answer.status in {400, 415}:
                refused = ManifestTypeRefused(error.message)
                refused.answer = error.answer
                raise refused from None
            raise
        response.head_of_body(self.session.settings.limits.error)
        stored, subject_known = digest_header(response.header(CONTENT_DIGEST)), response.header(OCI_SUBJECT)
        if stored is not None and stored.algorithm == digest.algorithm and stored != digest:
            raise WrongManifest(digest, stored)
        if manifest.subject is not None and not subject_known:
            add_to_fallback(self.session, self.repository, manifest)


def open_sink(client: Client, reference: Reference, *, parallel: int = 5) -> RemoteSink:
    """The sink that a push to `reference` writes to; a pinned reference is pushed by digest."""
    tag = "" if reference.digest else reference.tagged().tag
    return RemoteSink(client.session(reference.repository.host), reference.repository, tag, parallel=parallel)


def docker_only(sink: RemoteSink) -> RemoteSink:
    """The same target, taking Docker's media types only: for a registry that refused OCI's."""
    parallel = sink.capabilities.parallel_blobs
    return RemoteSink(sink.session, sink.repository, sink.tag, accepts=DOCKER_TYPES, parallel=parallel)


def delete(session: Session, reference: Reference) -> None:
    """Remove a tag, or a manifest when the reference is pinned.

    Raises:
        Missing, NotOffered, AccessDenied: as the registry says.
    """
    from lamina.transports.remote.protocol import delete_manifest

    session.call(delete_manifest(reference.repository, reference.identifier)).close()
