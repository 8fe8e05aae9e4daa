"""One HTTP exchange: no redirects, no retries, no authentication; urllib3 behind two small values.

The wire belongs to one registry. Connections to any other origin pass the address guard at the moment of connecting,
so a name that resolves inward, or changes its mind between check and use, reaches nothing (threats 39-41).
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
)
from urllib3.exceptions import SSLError as PoolSslError

from lamina.errors import LimitExceeded
from lamina.transports.remote.certs import tls_context
from lamina.transports.remote.failures import Unreachable
from lamina.transports.remote.network import Network
from lamina.transports.remote.origin import Origin, Url
from lamina.transports.remote.policy import Refused, may_contact
from lamina.transports.remote.settings import ClientSettings
from lamina.values import dataclass, field

Body = bytes | Callable[[], Iterable[bytes]] | None
_IDLE: Final = 8
_DRAIN: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Request:
    """What goes out. A body is bytes, or a function that starts the stream of it anew for every try."""

    method: str
    url: Url
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Body = field(default=None, repr=False)


class Response:
    """What came back: status and headers at once, the body when read. Must be closed, or read to its end."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, request: Request) -> None:
        self._raw, self.request = raw, request
        self.status: int = raw.status

    def header(self, name: str) -> str:
        """A header's value, "" when absent."""
        return self._raw.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        """All values of a header."""
        return list(self._raw.headers.getlist(name))

    @property
    def length(self) -> int | None:
        """Content-Length, or None."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() else None

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes of the body as sent.

        Raises:
            Unreachable: the connection broke or went silent.
        """
        try:
            return self._raw.read(None if size < 0 else size, decode_content=False)
        except (HTTPError, OSError) as error:
            raise _unreachable(self.request, error) from None

    def read_all(self, limit: int, what: str) -> bytes:
        """The whole body.

        Raises:
            LimitExceeded: more than `limit` bytes (threat 46).
        """
        try:
            if (self.length or 0) > limit:
                raise LimitExceeded(f"{what}: {self.length} bytes exceed the limit of {limit}")
            parts, left = [], limit + 1
            while left and (data := self.read(min(left, 1 << 16))):
                parts.append(data)
                left -= len(data)
            if not left:
                raise LimitExceeded(f"{what}: more than {limit} bytes")
            return b"".join(parts)
        finally:
            self.close()

    def head_of_body(self, limit: int) -> bytes:
        """At most `limit` bytes for an error message; never raises."""
        try:
            parts, left = [], limit
            while left and (data := self.read(min(left, 1 << 16))):
                parts.append(data)
                left -= len(data)
            return b"".join(parts)
        except Unreachable:
            return b""
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back; drop it when more than a little is left unread on it."""
        if self._raw.closed:
            return
        left = getattr(self._raw, "length_remaining", None)
        if self.request.method == "HEAD" or (left is not None and left <= _DRAIN):
            self._raw.drain_conn()  # http.client wants even an empty body read before the next request
        else:
            self._raw.close()
        self._raw.release_conn()


class Wire:
    """Connections on behalf of one registry. Safe to use from several threads.

    Attributes:
        home: the registry's own address, once it was contacted directly.
    """

    def __init__(self, settings: ClientSettings, registry_host: str) -> None:
        self._settings, self._registry = settings, registry_host
        self._pools: dict[Origin, HTTPConnectionPool] = {}
        self._lock = threading.Lock()
        self.home: str | None = None

    def send(self, request: Request, *, read_timeout: float | None = None) -> Response:
        """Send one request and return as soon as the headers are in.

        Raises:
            Unreachable: nobody answered.
            Refused: the address must not be contacted.
        """
        patience = self._settings.patience
        timeout = urllib3.Timeout(connect=patience.connect, read=read_timeout or patience.read)
        body = request.body() if callable(request.body) else request.body
        pool = self._pool(request.url.origin)
        headers = {"User-Agent": self._settings.user_agent, **request.headers}
        target = request.url.target
        if pool.proxy is not None and not request.url.origin.secure:
            target, headers = str(request.url), {**headers, **pool.proxy_headers}  # RFC 9112, section 3.2.2
        try:
            raw = pool.urlopen(
                request.method,
                target,
                body=_Chunks(body) if isinstance(body, Iterable) and not isinstance(body, bytes) else body,
                headers=headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
                timeout=timeout,
            )
        except (HTTPError, OSError) as error:
            raise _unreachable(request, error) from None
        return Response(raw, request)

    def close(self) -> None:
        """Drop all connections."""
        with self._lock:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()

    def _pool(self, origin: Origin) -> HTTPConnectionPool:
        with self._lock:
            pool = self._pools.get(origin)
            if pool is None:
                pool = self._pools[origin] = self._make_pool(origin)
            return pool

    def _make_pool(self, origin: Origin) -> HTTPConnectionPool:
        settings = self._settings
        tls = tls_context(origin, settings) if origin.secure else None
        extra: dict[str, Any] = {"ssl_context": tls} if tls else {}
        if tls is not None and not tls.check_hostname:
            extra |= {"cert_reqs": "CERT_NONE", "assert_hostname": False}
        proxy = settings.proxies.for_host(origin.scheme, origin.host, origin.port)
        if proxy:
            secret = urllib3.util.parse_url(proxy).auth
            known = urllib3.make_headers(proxy_basic_auth=unquote(secret)) if secret else None
            manager = urllib3.ProxyManager(proxy, maxsize=_IDLE, proxy_headers=known)
            manager.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": _QuietHttps}
            return manager.connection_from_host(origin.host, origin.port, origin.scheme, pool_kwargs=extra)
        dial = _Dial(settings.network, self, origin.host == self._registry, origin)
        kind: type[HTTPConnectionPool] = _HttpsPool if origin.secure else _HttpPool
        return kind(origin.host, origin.port, maxsize=_IDLE, block=False, dial=dial, **extra)

    def guard(self, address: str, origin: Origin) -> None:
        """Stop a connection to another origin's address that the registry may not send us to."""
        configured = self._settings.trust
        trusted = configured.realms.get(self._registry, frozenset()) | configured.upload_hosts.get(
            self._registry, frozenset()
        )
        if origin.host not in trusted and not may_contact(address, self.home):
            raise Refused(
                "connection", str(origin), f"registry {self._registry} points at the non-public address {address}"
            )


class _Chunks:
    """An iterable body; urllib3 takes objects with `read` for files, so streams are wrapped."""

    def __init__(self, source: Iterable[bytes]) -> None:
        self._source = source

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._source)


@dataclass(frozen=True, slots=True)
class _Dial:
    """Resolve, judge, connect."""

    network: Network
    wire: Wire
    is_home: bool
    origin: Origin

    def __call__(self, timeout: float) -> socket.socket:
        addresses = self.network.resolve(self.origin.host, self.origin.port)
        failure: OSError = OSError(f"no address for {self.origin.host}")
        for address in addresses:
            if not self.is_home:
                self.wire.guard(address, self.origin)
            try:
                sock = self.network.connect(address, self.origin.port, timeout)
            except OSError as error:
                error.add_note(address)
                failure = error
                continue
            if self.is_home:
                self.wire.home = address
            return sock
        raise failure


class _DialedHttp(HTTPConnection):
    def __init__(self, *args: Any, dial: _Dial, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dial = dial

    def _new_conn(self) -> socket.socket:
        return _dialed(self, self._dial)


class _DialedHttps(HTTPSConnection):
    def __init__(self, *args: Any, dial: _Dial, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dial = dial

    def _new_conn(self) -> socket.socket:
        return _dialed(self, self._dial)


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _DialedHttp


class _QuietHttps(HTTPSConnectionPool):
    """Does not warn of registries that the user marked insecure: they were asked for."""

    def _validate_conn(self, conn: Any) -> None:
        if conn.is_closed:
            conn.connect()


class _HttpsPool(_QuietHttps):
    ConnectionCls = _DialedHttps


def _dialed(connection: HTTPConnection, dial: _Dial) -> socket.socket:
    seconds = connection.timeout if isinstance(connection.timeout, (int, float)) else 10.0
    try:
        return dial(seconds)
    except socket.gaierror:
        raise NewConnectionError(connection, f"dial tcp: lookup {dial.origin.host}: no such host") from None
    except TimeoutError:
        raise ConnectTimeoutError(connection, "dial tcp: i/o timeout") from None
    except OSError as error:
        address = getattr(error, "__notes__", [dial.origin.host])[-1]
        reason = (error.strerror or str(error)).lower()
        shown = f"[{address}]" if ":" in address else address
        raise NewConnectionError(connection, f"dial tcp {shown}:{dial.origin.port}: connect: {reason}") from None


def _unreachable(request: Request, error: Exception) -> Unreachable:
    url = request.url.redacted()
    cause: BaseException = error
    if isinstance(error, ProxyError) and error.original_error is not None:
        cause = error.original_error
    if isinstance(cause, NewConnectionError):
        return Unreachable(request.method, url, cause.args[0].rpartition(": dial ")[2].join(["dial ", ""]))
    if isinstance(cause, ConnectTimeoutError):
        return Unreachable(request.method, url, "dial tcp: i/o timeout", retryable=True)
    if isinstance(cause, ReadTimeoutError | TimeoutError):
        return Unreachable(request.method, url, "timeout while waiting for the answer", retryable=True)
    if isinstance(cause, PoolSslError | ssl.SSLError):
        inner = cause.args[0] if cause.args and isinstance(cause.args[0], Exception) else cause
        return Unreachable(request.method, url, f"tls: {_tls_problem(inner)}", tls=True)
    text = str(cause.args[-1]) if cause.args else type(cause).__name__
    return Unreachable(request.method, url, f"connection broken: {text}", retryable=True)


def _tls_problem(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"failed to verify certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        if error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}:
            return "first record does not look like a TLS handshake"
        return error.reason.lower().replace("_", " ")
    return str(error)
