"""Blob uploads: one PUT when size and digest are known, one chunked PATCH when they are made on the way (S47, A10).

Broken uploads are taken up where the registry's session stands, when it can tell, and started anew when it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import quote

from lamina.errors import Cancelled, Integrity, LaminaError
from lamina.image.protocols import Readable, ResumableOpener
from lamina.image.verify import VerifyingReader
from lamina.progress import Progress, ProgressSink
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.distribution import CONTENT_DIGEST
from lamina.spec.mediatype import OCTET_STREAM
from lamina.spec.reference import Repository
from lamina.transports.remote.auth import push_scope
from lamina.transports.remote.client import Session
from lamina.transports.remote.failures import Missing, RegistryFailed, Rejected, Unreachable
from lamina.transports.remote.origin import Url
from lamina.transports.remote.policy import check_upload_location
from lamina.transports.remote.protocol import UPLOAD_TYPE, BadAnswer, Call, digest_header, received, start_upload
from lamina.transports.remote.retry import Retrying
from lamina.transports.remote.wire import Response
from lamina.values import replace

CHUNK = 1 << 20


class Upload:
    """One upload session of a repository."""

    def __init__(self, session: Session, repository: Repository) -> None:
        self._session, self._repository = session, repository
        self._scopes = (push_scope(repository.path),)

    def begin(self) -> Url:
        """Open a session; returns where its bytes go.

        Raises:
            Refused: the registry names another origin for them (threat 41).
        """
        response = self._session.call(start_upload(self._repository))
        return self.location(response)

    def location(self, response: Response) -> Url:
        """Where an answer says that the upload goes on; closes the answer."""
        base = response.request.url
        text = response.header("Location")
        response.close()
        if not text:
            raise BadAnswer(f"{base.redacted()}: the registry gave no upload location")
        with self._session.secrets.kept():
            target = Url.parse(text, base)
            check_upload_location(self._session.origin, target, self._session.settings.trust)
        return target

    def send(
        self, blob: Descriptor, open_: Callable[[], Readable], report: ProgressSink, at: Url | None = None
    ) -> None:
        """Upload a blob of known digest and size.

        Args:
            blob: what it must turn out to be; checked here while it is sent, and by the registry.
            open_: opens the bytes, once for every try.
            report: told of progress, about once for each MiB.
            at: a session that is open already (the answer to a mount that did not work).

        Raises:
            Integrity: the source's bytes are not the blob's; the registry keeps nothing.
            LaminaError: what the registry answered.
        """
        settings = self._session.settings
        retrying = Retrying(settings.patience, settings.jitter, settings.clock)
        while True:
            where = at or self.begin()
            try:
                self._put(blob, where, open_, report)
                return
            except (Unreachable, RegistryFailed) as error:
                if isinstance(error, Unreachable) and not error.retryable:
                    raise
                at = None
                wait = retrying.next_wait()
                if wait is None:
                    raise
                settings.sleep(wait)
                if self._resume(blob, where, open_, report):
                    return
            except (Integrity, Cancelled):
                self.cancel(where)
                raise

    def _put(self, blob: Descriptor, where: Url, open_: Callable[[], Readable], report: ProgressSink) -> None:
        call = self._call("PUT", blob.size, lambda: _whole(blob, open_, report))
        self._finish(self._session.fetch(call, where.with_query(_digest(blob.digest))), blob.digest)

    def _resume(self, blob: Descriptor, where: Url, open_: Callable[[], Readable], report: ProgressSink) -> bool:
        """Continue a broken upload; False when the registry cannot, and a new session is needed."""
        try:
            status = Call("GET", "", scopes=self._scopes, expect=frozenset({204}), follow=False, retry=False)
            response = self._session.fetch(status, where)
            have = received(response.header("Range"))
            if response.header("Location"):
                where = self.location(response)
            else:
                response.close()
            if not 0 < have <= blob.size:
                return False
            patch = self._call("PATCH", blob.size - have, lambda: _rest(blob, have, open_, report))
            headers = {**patch.headers, "Content-Range": f"{have}-{blob.size - 1}"}
            if have < blob.size:
                patch = replace(patch, headers=headers, expect=frozenset({202, 204}))
                where = self.location(self._session.fetch(patch, where))
            self.commit(where, blob.digest)
        except (Unreachable, RegistryFailed, Rejected, Missing):
            return False
        return True

    def stream(self, open_: Callable[[], Readable], report: ProgressSink) -> Descriptor:
        """Upload a blob whose digest is not known yet; it is hashed while it is sent.

        One try only: what is being made cannot be made again for free. Returns digest and size.
        """
        where = self.begin()
        hasher, size = Digest.of(b"").hasher(), 0

        def chunks() -> Iterator[bytes]:
            nonlocal size
            stream = open_()
            try:
                while data := stream.read(CHUNK):
                    hasher.update(data)
                    size += len(data)
                    yield data
                    report(Progress("", "Pushing", size))
            finally:
                stream.close()

        patch = replace(self._call("PATCH", None, chunks), expect=frozenset({202, 204}))
        where = self.location(self._session.fetch(patch, where))
        digest = Digest.from_hasher(hasher)
        self.commit(where, digest)
        return Descriptor(OCTET_STREAM, digest, size)

    def commit(self, where: Url, digest: Digest) -> None:
        """Close a session whose bytes are all there."""
        call = self._call("PUT", 0, None)
        self._finish(self._session.fetch(call, where.with_query(_digest(digest))), digest)

    def cancel(self, where: Url) -> None:
        """Drop a session; what the registry thinks of that does not matter."""
        try:
            call = Call("DELETE", "", scopes=self._scopes, expect=frozenset({200, 202, 204}), follow=False, retry=False)
            self._session.fetch(call, where).close()
        except LaminaError:
            pass

    def _call(self, method: str, length: int | None, body: Callable[[], Iterator[bytes]] | None) -> Call:
        headers = dict(UPLOAD_TYPE) | ({} if length is None else {"Content-Length": str(length)})
        expect = frozenset({200, 201, 202, 204}) if method == "PUT" else frozenset({202})
        return Call(method, "", headers, body, self._scopes, expect, follow=False, retry=False)

    def _finish(self, response: Response, digest: Digest) -> None:
        response.head_of_body(self._session.settings.limits.error)
        with self._session.secrets.kept():
            stored = digest_header(response.header(CONTENT_DIGEST))
        if stored is not None and stored.algorithm == digest.algorithm and stored != digest:
            raise BadAnswer(f"the registry stored {stored} when it was sent {digest}")


def _digest(digest: Digest) -> str:
    return f"digest={quote(str(digest), safe=':')}"


def _whole(blob: Descriptor, open_: Callable[[], Readable], report: ProgressSink) -> Iterator[bytes]:
    stream = VerifyingReader(open_(), blob)
    sent = 0
    try:
        while sent < blob.size and (data := stream.read(CHUNK)):
            yield data
            sent += len(data)
            report(Progress("", "Pushing", sent, blob.size))
        stream.read(1)  # a source with more bytes than it said is wrong, however small the surplus
    finally:
        stream.close()


def _rest(blob: Descriptor, offset: int, open_: Callable[[], Readable], report: ProgressSink) -> Iterator[bytes]:
    stream = open_.at(offset) if isinstance(open_, ResumableOpener) else open_()
    skip = 0 if isinstance(open_, ResumableOpener) else offset
    sent = offset
    try:
        while skip and (data := stream.read(min(skip, CHUNK))):
            skip -= len(data)
        while sent < blob.size and (data := stream.read(min(CHUNK, blob.size - sent))):
            yield data
            sent += len(data)
            report(Progress("", "Pushing", sent, blob.size))
    finally:
        stream.close()
