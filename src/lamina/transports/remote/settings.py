"""Everything a registry client is told by its caller: limits, patience, proxies, trust. Values only."""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Callable, Sequence

from lamina.transports.remote.credentials import CredentialSource, NoCredentials
from lamina.transports.remote.network import Network, RealNetwork
from lamina.transports.remote.origin import is_loopback
from lamina.transports.remote.policy import Trust
from lamina.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a peer can make us read or do (threat 46). Sizes in bytes."""

    manifest: int = 4 << 20
    error: int = 64 << 10
    token: int = 64 << 10
    listing: int = 8 << 20
    pages: int = 10_000
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait and how often to try (fault F19). Times in seconds.

    Attributes:
        connect: for a connection.
        read: for the next bytes.
        attempts: tries of one request, the first included.
        floor: the least wait, however small a Retry-After is.
        ceiling: the most that one Retry-After is obeyed; a longer one ends the try at once.
        budget: the most time spent waiting on behalf of one request.
        stalls: how often in a row a transfer may break without a byte of progress.
        breaks: how often in all a transfer may break.
    """

    connect: float = 10.0
    read: float = 60.0
    attempts: int = 5
    floor: float = 0.25
    ceiling: float = 60.0
    budget: float = 120.0
    stalls: int = 4
    breaks: int = 50


@dataclass(frozen=True, slots=True)
class Proxies:
    """Proxy URLs, "" for none; `no_proxy` as the variable of that name is written."""

    http: str = ""
    https: str = ""
    no_proxy: str = ""

    def for_host(self, scheme: str, host: str, port: int) -> str:
        """The proxy to use, "" for a direct connection. Loopback is never proxied."""
        chosen = self.https if scheme == "https" else self.http
        if not chosen or is_loopback(host):
            return ""
        for pattern in self.no_proxy.split(","):
            if _matches(pattern.strip().lower(), host, port):
                return ""
        return chosen


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How to talk to registries.

    Attributes:
        credentials: who we are, by registry.
        insecure: registries (`host`, `host:port`, or a CIDR block) that may lack TLS or a valid certificate.
        loopback_insecure: loopback registries count as insecure, as with Docker.
        certs_dirs: directories that hold `HOST[:PORT]/{ca.crt,client.cert,client.key}`, first match wins.
        sleep, jitter: injected for tests; jitter returns a factor in [0, 1).
    """

    credentials: CredentialSource = field(default_factory=NoCredentials)
    insecure: Sequence[str] = ()
    loopback_insecure: bool = True
    certs_dirs: Sequence[str] = ()
    proxies: Proxies = field(default_factory=Proxies)
    trust: Trust = field(default_factory=Trust)
    limits: Limits = field(default_factory=Limits)
    patience: Patience = field(default_factory=Patience)
    user_agent: str = "lamina"
    network: Network = field(default_factory=RealNetwork)
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    clock: Callable[[], float] = time.time

    def is_insecure(self, host: str, port: int) -> bool:
        """Whether a registry may go without TLS."""
        if self.loopback_insecure and is_loopback(host):
            return True
        return any(_covers(entry, host, port) for entry in self.insecure)


def _covers(entry: str, host: str, port: int) -> bool:
    if "/" in entry:
        try:
            return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    return entry.lower() in {host, f"{host}:{port}", f"[{host}]:{port}"}


def _matches(pattern: str, host: str, port: int) -> bool:
    """One entry of NO_PROXY: `*`, a host, `.suffix`, `host:port`, an address or a CIDR block."""
    if not pattern:
        return False
    if pattern == "*":
        return True
    if "/" in pattern:
        return _covers(pattern, host, port)
    name, colon, wanted = pattern.rpartition(":")
    if colon and wanted.isdigit() and name:
        if int(wanted) != port:
            return False
        pattern = name
    bare = pattern.lstrip("*").lstrip(".")
    return host == bare or host.endswith("." + bare)
