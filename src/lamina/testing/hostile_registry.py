"""A scripted HTTP server that answers whatever a test wants, and a network that lends public names to it.

`HostileServer` listens on loopback and records every connection and request. `FakeNetwork` is a `Network` whose hosts
and addresses are what the test says (`registry.example` at 203.0.113.10, ...), each led to a server; it records whom
the client tried to reach, so that "no packet was sent" is an assertion about facts.
"""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from lamina.spec import distribution as dist
from lamina.spec.digest import Digest
from lamina.spec.distribution import Code
from lamina.values import dataclass, field

_MAX_HEAD: Final = 64 << 10
_TLS_RECORD: Final = b"\x16"


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came in. Header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str] = field(hash=False)
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """Without the query."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer.

    Attributes:
        status: HTTP status.
        body: bytes, or an endless or slow stream of them.
        headers: sent as given; Content-Length is added for bytes unless one is given.
        cut: close the connection after so many body bytes, None for the whole; `reset` does it with a TCP reset.
    """

    status: int = 200
    body: bytes | Callable[[], Iterator[bytes]] = b""
    headers: Sequence[tuple[str, str]] = ()
    cut: int | None = None
    reset: bool = False


Handler = Callable[[Seen], Reply]


def json_reply(document: Any, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Reply:
    """A JSON answer."""
    return Reply(status, json.dumps(document).encode(), [("Content-Type", "application/json"), *headers])


def error_reply(code: Code, headers: Sequence[tuple[str, str]] = ()) -> Reply:
    """A registry's error, in its words."""
    body = dist.encode_errors([dist.WireError(code.name, code.description)])
    return Reply(code.status, body, [("Content-Type", "application/json"), *headers])


def bearer(realm: str, *, service: str = "registry", scope: str = "") -> Reply:
    """A 401 that asks for a Bearer token."""
    challenge = f'Bearer realm="{realm}",service="{service}"' + (f',scope="{scope}"' if scope else "")
    return error_reply(Code.UNAUTHORIZED, [("WWW-Authenticate", challenge)])


class HostileServer:
    """An HTTP/1.1 server over a handler. A context manager.

    Attributes:
        seen: every request, in order.
        connections: how many came in, whatever they sent.
    """

    def __init__(self, handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.handler, self._tls, self.host = handler, tls, host
        self.seen: list[Seen] = []
        self.connections = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind((host, 0))
        self._listener.listen(64)
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Its origin."""
        return f"{'https' if self._tls else 'http'}://{self.authority}"

    def headers_seen(self, name: str) -> list[str]:
        """All values of a header in all requests."""
        return [request.headers[name.lower()] for request in self.seen if name.lower() in request.headers]

    def __enter__(self) -> HostileServer:
        self._acceptor.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        connection: socket.socket = raw
        try:
            if self._tls is not None:
                wrapped = self._tls.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
                with self._lock:
                    self._open.add(wrapped)
                connection = wrapped
                wrapped.do_handshake()
            stream = connection.makefile("rb")
            with stream:
                while (request := _read_request(stream)) is not None:
                    with self._lock:
                        self.seen.append(request)
                    if not _send(connection, self.handler(request), head=request.method == "HEAD"):
                        break
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open -= {raw, connection}
            for sock in (connection, raw):
                with suppress(OSError):
                    sock.close()


def _read_request(stream: Any) -> Seen | None:
    if stream.peek(1)[:1] == _TLS_RECORD:  # it has no line to wait for; real servers hang up at once, too
        return None
    line = stream.readline(_MAX_HEAD)
    if not line.strip() or line.count(b" ") < 2:
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (line := stream.readline(_MAX_HEAD)) not in {b"\r\n", b"\n", b""}:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b"".join(_chunks(stream))
    else:
        body = stream.read(int(headers.get("content-length", "0")))
    return Seen(method, target, headers, body)


def _chunks(stream: Any) -> Iterator[bytes]:
    while size := int(stream.readline(_MAX_HEAD).strip() or b"0", 16):
        yield stream.read(size)
        stream.readline(_MAX_HEAD)
    stream.readline(_MAX_HEAD)


def _send(connection: socket.socket, reply: Reply, *, head: bool) -> bool:
    """Send an answer; False when the connection is of no use any more."""
    names = {name.lower() for name, _ in reply.headers}
    lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in reply.headers)]
    endless = callable(reply.body)
    if "content-length" not in names and not endless and reply.status not in {204, 304}:
        lines.append(f"Content-Length: {len(reply.body)}")  # type: ignore[arg-type]
    if endless and "content-length" not in names:
        lines.append("Connection: close")
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    if head:
        return True
    chunks = reply.body() if callable(reply.body) else iter([reply.body])
    left = reply.cut
    for chunk in chunks:
        part = chunk if left is None else chunk[:left]
        connection.sendall(part)
        if left is not None:
            left -= len(part)
            if left <= 0 and (endless or reply.cut != len(reply.body)):  # type: ignore[arg-type]
                if reply.reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                return False
    return not endless


@dataclass(slots=True)
class FakeNetwork:
    """Names and addresses of a made-up internet.

    Attributes:
        hosts: addresses of each name; a name that is missing is unknown.
        servers: for (address, port) the real address and port behind it; others refuse the connection.
        contacted: (address, port) of every attempt to connect.
    """

    hosts: dict[str, list[str]] = field(default_factory=dict)
    servers: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    contacted: list[tuple[str, int]] = field(default_factory=list)

    def add(self, host: str, address: str, port: int, server: HostileServer) -> None:
        """Let a name and address lead to a server."""
        self.hosts.setdefault(host, []).append(address)
        self.servers[address, port] = (server.host, server.port)

    def resolve(self, host: str, port: int) -> Sequence[str]:  # noqa: ARG002
        """The addresses of a host; addresses resolve to themselves."""
        with suppress(ValueError):
            import ipaddress

            return [str(ipaddress.ip_address(host))]
        if host not in self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return list(self.hosts[host])

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        """A socket to the server behind an address."""
        self.contacted.append((address, port))
        if (address, port) not in self.servers:
            raise ConnectionRefusedError(111, "Connection refused")
        return socket.create_connection(self.servers[address, port], timeout)

    def reached(self, host_or_address: str) -> bool:
        """Whether anyone tried to connect there."""
        addresses = self.hosts.get(host_or_address, [host_or_address])
        return any(address in addresses for address, _ in self.contacted)


class ScriptedRegistry:
    """An honest registry in memory, as a handler to bend: tests wrap it and lie where they want to.

    Attributes:
        blobs: content by digest.
        manifests: (bytes, media type) by `name:identifier` for tags and digests alike.
        uploads: bytes of open upload sessions.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.uploads: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._sessions = itertools.count(1)

    def __call__(self, request: Seen) -> Reply:
        """Answer one request."""
        with self._lock:
            return self._answer(request)

    def _answer(self, request: Seen) -> Reply:
        path, _, query = request.target.partition("?")
        if path == dist.PING_PATH:
            return json_reply({})
        name, kind, rest = _split(path)
        if kind == "manifests":
            return self._manifest(request, name, rest)
        if kind == "blobs" and rest.startswith("uploads/"):
            return self._upload(request, name, rest.removeprefix("uploads/"), query)
        if kind == "blobs":
            return self._blob(request, rest)
        if kind == "tags":
            tags = sorted(key.rpartition(":")[2] for key in self.manifests if key.startswith(f"{name}:"))
            return json_reply({"name": name, "tags": [tag for tag in tags if len(tag) < 64]})
        return error_reply(Code.UNSUPPORTED)

    def _manifest(self, request: Seen, name: str, identifier: str) -> Reply:
        key = f"{name}:{identifier.removeprefix('sha256:')}"
        if request.method == "PUT":
            digest = Digest.of(request.body)
            kept = (request.body, request.headers["content-type"])
            self.manifests[key] = self.manifests[f"{name}:{digest.hex}"] = kept
            return Reply(201, b"", [("Docker-Content-Digest", str(digest)), ("Location", request.path)])
        if key not in self.manifests:
            return error_reply(Code.MANIFEST_UNKNOWN)
        raw, media_type = self.manifests[key]
        return Reply(200, raw, [("Content-Type", media_type), ("Docker-Content-Digest", str(Digest.of(raw)))])

    def _blob(self, request: Seen, digest: str) -> Reply:
        if digest not in self.blobs:
            return error_reply(Code.BLOB_UNKNOWN)
        raw = self.blobs[digest]
        start = request.headers.get("range", "").removeprefix("bytes=").removesuffix("-")
        if start:
            last = len(raw) - 1
            return Reply(206, raw[int(start) :], [("Content-Range", f"bytes {start}-{last}/{len(raw)}")])
        return Reply(200, raw, [("Content-Type", "application/octet-stream")])

    def _upload(self, request: Seen, name: str, session: str, query: str) -> Reply:
        if request.method == "POST":
            session = str(next(self._sessions))
            self.uploads[session] = b""
            return Reply(202, b"", [("Location", f"/v2/{name}/blobs/uploads/{session}"), ("Range", "0-0")])
        if session not in self.uploads:
            return error_reply(Code.BLOB_UPLOAD_UNKNOWN)
        if request.method == "GET":
            return Reply(204, b"", [("Range", f"0-{max(len(self.uploads[session]) - 1, 0)}")])
        if request.method == "DELETE":
            del self.uploads[session]
            return Reply(204)
        self.uploads[session] += request.body
        if request.method == "PATCH":
            last = len(self.uploads[session]) - 1
            return Reply(202, b"", [("Location", request.target), ("Range", f"0-{last}")])
        content = self.uploads.pop(session)
        wanted = query.partition("digest=")[2].partition("&")[0]
        if str(Digest.of(content)) != wanted:
            return error_reply(Code.DIGEST_INVALID)
        self.blobs[wanted] = content
        return Reply(201, b"", [("Docker-Content-Digest", wanted), ("Location", f"/v2/{name}/blobs/{wanted}")])


def _split(path: str) -> tuple[str, str, str]:
    """`/v2/NAME/KIND/REST`."""
    for kind in ("manifests", "blobs", "tags", "referrers"):
        name, found, rest = path.removeprefix("/v2/").partition(f"/{kind}/")
        if found:
            return name, kind, rest
    return path, "", ""


@contextmanager
def serving(handler: Handler, *, tls: ssl.SSLContext | None = None) -> Iterator[HostileServer]:
    """A running server."""
    with HostileServer(handler, tls=tls) as server:
        yield server
