"""Web origins and the URLs that registries hand out, parsed once and strictly (threats 39-44)."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urljoin, urlsplit

from lamina.errors import Invalid
from lamina.spec.reference import DOCKER_HUB
from lamina.values import dataclass

_PORTS: Final = {"http": 80, "https": 443}
#: docker.io is a name, not a server: the API of Docker Hub answers here.
HUB_API: Final = "registry-1.docker.io"


class BadUrl(Invalid):
    """A peer named a URL that is no plain http(s) URL."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"refused URL {url[:200]!r}: {problem}")
        self.url = url


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host (lower case, without brackets) and port."""

    scheme: str
    host: str
    port: int

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.scheme == "https"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port != _PORTS[self.scheme] else "")


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute http(s) URL: origin and target (path with query, no fragment)."""

    origin: Origin
    target: str

    @classmethod
    def parse(cls, text: str, base: Url | None = None) -> Url:
        """Parse a URL, relative to `base` when that is given.

        Raises:
            BadUrl: another scheme, no host, user information, control characters or a bad port.
        """
        if any(ord(char) <= 32 or ord(char) == 127 for char in text) or "\\" in text:
            raise BadUrl(text, "blanks, control characters or backslashes")
        joined = urljoin(str(base), text) if base else text
        try:
            parts = urlsplit(joined)
            scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
        except ValueError as error:
            raise BadUrl(text, str(error)) from None
        if scheme not in _PORTS:
            raise BadUrl(text, "only http and https are spoken")
        if not host or not host.isascii():
            raise BadUrl(text, "no usable host")
        if parts.username is not None or parts.password is not None:
            raise BadUrl("...", "it carries user information")
        target = parts.path or "/"
        if not target.startswith("/"):
            raise BadUrl(text, "no absolute path")
        target += f"?{parts.query}" if parts.query else ""
        return cls(Origin(scheme, host.lower().rstrip("."), port or _PORTS[scheme]), target)

    def with_query(self, query: str) -> Url:
        """The URL with a query appended."""
        return Url(self.origin, f"{self.target}{'&' if '?' in self.target else '?'}{query}") if query else self

    @property
    def path(self) -> str:
        """Without the query, which may hold signatures and must not be logged."""
        return self.target.partition("?")[0]

    def redacted(self) -> str:
        """For messages."""
        return f"{self.origin}{self.path}"

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"


def api_origin(host: str, scheme: str = "https") -> Origin:
    """Where the registry called `host` in references (`docker.io`, `localhost:5000`, `[::1]:5000`) answers."""
    name = HUB_API if host == DOCKER_HUB else host
    return Url.parse(f"{scheme}://{name}/").origin


def is_loopback(host: str) -> bool:
    """Whether a host (no port, no brackets) is this machine by its very name: localhost, 127.0.0.0/8, ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
