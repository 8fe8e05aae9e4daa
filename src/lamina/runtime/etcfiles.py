"""The contents of /etc/resolv.conf, /etc/hosts and /etc/hostname that a container sees. Pure text in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

# Docker's choice too, where the host names only resolvers that a container cannot reach.
PUBLIC_RESOLVERS: Final = ("8.8.8.8", "8.8.4.4")


def resolv_conf(
    host: str,
    *,
    nameservers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    own_network: bool = True,
) -> str:
    """The container's resolv.conf (resolv.conf(5)).

    Args:
        host: the host's file.
        nameservers: replace the host's when given (`--dns`).
        search: replace the host's when given; a single `.` means none (`--dns-search`).
        options: replace the host's when given (`--dns-option`).
        own_network: the container cannot reach the host's loopback, so resolvers there are left out.
    """
    host_servers: list[str] = []
    host_search: list[str] = []
    host_options: list[str] = []
    for line in host.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            host_servers.append(words[1])
        elif words[0] in {"search", "domain"}:
            host_search = words[1:]
        elif words[0] == "options":
            host_options += words[1:]
    servers = list(nameservers) or [name for name in host_servers if not own_network or not _loopback(name)]
    if not servers and own_network:
        servers = list(PUBLIC_RESOLVERS)
    domains = [] if list(search) == ["."] else list(search) or host_search
    lines = [f"nameserver {server}" for server in servers]
    if domains:
        lines.append("search " + " ".join(domains))
    chosen = list(options) or host_options
    if chosen:
        lines.append("options " + " ".join(chosen))
    return "".join(line + "\n" for line in lines)


def _loopback(server: str) -> bool:
    try:
        import ipaddress

        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True


def hosts(
    names: Sequence[str] = (),
    addresses: Iterable[str] = (),
    extra: Iterable[tuple[str, str]] = (),
    *,
    ipv6: bool = True,
) -> str:
    """The container's hosts file (hosts(5)).

    Args:
        names: the container's own, host name first.
        addresses: its own.
        extra: further `(name, address)` pairs (`--add-host`), before its own as in Docker.
        ipv6: list the IPv6 names too.
    """
    lines = ["127.0.0.1\tlocalhost"]
    if ipv6:
        lines += [
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet",
            "ff00::0\tip6-mcastprefix",
            "ff02::1\tip6-allnodes",
            "ff02::2\tip6-allrouters",
        ]
    lines += [f"{address}\t{name}" for name, address in extra]
    if names:
        lines += [f"{address}\t{' '.join(names)}" for address in addresses]
    return "".join(line + "\n" for line in lines)
