"""Images in a registry: manifests and blobs as a `BlobSource`, which `partial` completes to images and indexes."""

from __future__ import annotations

from lamina.errors import LaminaError, Unsupported
from lamina.image.partial import BlobImage, BlobIndex, open_document
from lamina.image.protocols import MissingChild, Readable
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.distribution import CONTENT_DIGEST
from lamina.spec.reference import Reference, Repository
from lamina.transports.remote.client import Client, Session
from lamina.transports.remote.credentials import NoCredentials
from lamina.transports.remote.failures import Missing, for_pull
from lamina.transports.remote.origin import Url
from lamina.transports.remote.policy import check_foreign
from lamina.transports.remote.protocol import Call, check_manifest, digest_header, get_blob, get_manifest
from lamina.transports.remote.resume import ResumingBlob
from lamina.transports.remote.settings import ClientSettings
from lamina.values import replace


class RemoteSource:
    """A repository to read from."""

    def __init__(self, session: Session, repository: Repository) -> None:
        self.session, self.repository = session, repository

    def image(self, reference: Reference) -> BlobImage | BlobIndex:
        """The image or index of that tag or digest; one request, the rest is lazy.

        Raises:
            ManifestNotFound, RepositoryNotFound, PullAccessDenied: in Docker's words.
            WrongManifest: the bytes are not those of the digest asked for (threat 48).
            LimitExceeded: the manifest exceeds 4 MiB.
            InvalidDocument, UnsupportedManifest: no image that lamina reads.
        """
        with self.session.secrets.kept():  # the media type that is said to be unknown is the registry's word
            raw, media_type, _ = self.manifest(reference)
            return open_document(raw, media_type, self)

    def manifest(self, reference: Reference) -> tuple[bytes, str, Digest]:
        """Bytes, media type and digest of a manifest, verified; errors as for `image`."""
        identifier = reference.identifier
        try:
            response = self.session.call(get_manifest(self.repository, identifier))
        except LaminaError as error:
            raise for_pull(error, reference.tagged().familiar, self.repository.familiar) from None
        media_type = response.header("Content-Type").partition(";")[0].strip()
        raw = response.read_all(self.session.settings.limits.manifest, f"manifest {reference.familiar}")
        with self.session.secrets.kept():
            announced = digest_header(response.header(CONTENT_DIGEST))
        return raw, media_type, check_manifest(raw, identifier, announced)

    def resolve(self, reference: Reference) -> Descriptor:
        """What a tag points at now, without its content: HEAD, or GET where HEAD says too little.

        Raises:
            as `image`.
        """
        identifier = reference.identifier
        try:
            response = self.session.call(get_manifest(self.repository, identifier, head=True))
        except LaminaError as error:
            raise for_pull(error, reference.tagged().familiar, self.repository.familiar) from None
        response.close()
        with self.session.secrets.kept():
            digest, size = digest_header(response.header(CONTENT_DIGEST)), response.length
        media_type = response.header("Content-Type").partition(";")[0].strip()
        known = mediatype.is_manifest(media_type) or mediatype.is_index(media_type)
        if digest is None or size is None or not known or (reference.digest and digest != reference.digest):
            raw, media_type, digest = self.manifest(reference)
            size = len(raw)
        return Descriptor(media_type, digest, size)

    def read_manifest(self, child: Descriptor) -> bytes:
        """The bytes of a manifest by digest.

        Raises:
            MissingChild: the index is sparse here.
        """
        limit = self.session.settings.limits.manifest
        call = get_manifest(self.repository, str(child.digest))
        accept = ", ".join(dict.fromkeys([child.media_type, *mediatype.ACCEPT_MANIFESTS]))
        try:
            response = self.session.call(replace(call, headers={"Accept": accept}))
        except Missing:
            raise MissingChild(child) from None
        raw = response.read_all(limit, f"manifest {child.digest}")
        check_manifest(raw, str(child.digest), None)
        return raw

    def open_blob(self, blob: Descriptor, offset: int = 0) -> Readable:
        """The blob's bytes from `offset` on; broken transfers are taken up again where they broke (A10, F19).

        Raises:
            Missing: there is no such blob.
            Refused: it is a foreign layer and those are off (threat 45).
        """
        try:
            return ResumingBlob(self.session, self._open, blob, offset)
        except Missing:
            if mediatype.is_foreign(blob.media_type) and blob.urls:
                return self._open_foreign(blob, offset)
            raise

    def _open(self, blob: Descriptor, offset: int) -> tuple[Call, Url]:
        call = get_blob(self.repository, blob.digest, offset)
        return call, self.session.url(call.target)

    def _open_foreign(self, blob: Descriptor, offset: int) -> Readable:
        """A layer at one of its URLs: without credentials, https only, if the user switched that on."""
        failure: LaminaError = Unsupported(f"layer {blob.digest} has no usable URL")
        for text in blob.urls[:10]:
            url = Url.parse(text)
            check_foreign(url, self.session.settings.trust)
            stranger = Session(f"{url.origin.host}:{url.origin.port}", _anonymous(self.session))

            def locate(blob: Descriptor, offset: int, url: Url = url) -> tuple[Call, Url]:
                call = get_blob(self.repository, blob.digest, offset)
                return Call("GET", url.target, call.headers, expect=call.expect), url

            try:
                return ResumingBlob(stranger, locate, blob, offset)
            except LaminaError as error:
                failure = error
        raise failure


def _anonymous(session: Session) -> ClientSettings:
    return replace(session.settings, credentials=NoCredentials(), insecure=(), loopback_insecure=False)


def open_remote(client: Client, reference: Reference) -> BlobImage | BlobIndex:
    """The image or index that a reference names in its registry; errors as for `RemoteSource.image`."""
    return RemoteSource(client.session(reference.repository.host), reference.repository).image(reference)
