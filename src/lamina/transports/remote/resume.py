"""A blob download that survives broken connections: it asks again, from the byte where it broke (A10, fault F19)."""

from __future__ import annotations

from collections.abc import Callable

from lamina.image.verify import SizeMismatch
from lamina.spec.descriptor import Descriptor
from lamina.transports.remote.client import Session
from lamina.transports.remote.failures import Unreachable
from lamina.transports.remote.origin import Url
from lamina.transports.remote.protocol import Call, content_start
from lamina.transports.remote.wire import Response

_SKIP = 1 << 20
Locate = Callable[[Descriptor, int], tuple[Call, Url]]


class ResumingBlob:
    """A readable blob from `offset` to its end. The digest is the caller's to check; the length is checked here."""

    def __init__(self, session: Session, locate: Locate, blob: Descriptor, offset: int = 0) -> None:
        self._session, self._locate, self._blob = session, locate, blob
        self._position = offset
        self._stalls = self._breaks = 0
        self._response: Response | None = None
        self._nothing = offset >= blob.size > 0
        if not self._nothing:
            self._response = self._open()

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, b"" at the end.

        Raises:
            SizeMismatch: the registry announces another length.
            Unreachable: it broke too often.
        """
        if self._nothing or size == 0:
            return b""
        while True:
            try:
                if self._response is None:
                    self._response = self._open()
                data = self._response.read(size)
                if data or self._position >= self._blob.size:
                    break
                raise Unreachable("GET", self._response.request.url.redacted(), "transfer ended early", retryable=True)
            except Unreachable as error:
                self._after(error)
        self._stalls = 0
        self._position += len(data)
        return data

    def _after(self, error: Unreachable) -> None:
        """Wait before it is opened again, or raise."""
        settings = self._session.settings
        self._stalls += 1
        self._breaks += 1
        if not error.retryable or self._stalls > settings.patience.stalls or self._breaks > settings.patience.breaks:
            raise error
        self.close()
        if self._stalls > 1:
            wait = settings.patience.floor * 2 ** (self._stalls - 2)
            settings.sleep(wait * (1 + settings.jitter()))

    def _open(self) -> Response:
        call, url = self._locate(self._blob, self._position)
        response = self._session.fetch(call, url)
        try:
            skip = self._position
            if response.status == 206:
                skip = 0
                if content_start(response.header("Content-Range")) != self._position:
                    raise SizeMismatch(f"blob {self._blob.digest}: range of the answer", self._position, -1)
            expected = self._blob.size - self._position + skip
            if response.length is not None and response.length != expected:
                raise SizeMismatch(f"blob {self._blob.digest}", expected, response.length)
            # A server without ranges starts over: read past what we have.
            while skip:
                if not (data := response.read(min(skip, _SKIP))):
                    raise Unreachable("GET", url.redacted(), "transfer ended early", retryable=True)
                skip -= len(data)
        except BaseException:
            response.close()
            raise
        return response

    def close(self) -> None:
        """Give the connection back."""
        if self._response is not None:
            self._response.close()
            self._response = None
