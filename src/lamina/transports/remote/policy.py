"""Which of the places a registry points at may be contacted, and with what (threats 40-45). Pure decisions, no I/O.

A registry can answer with redirects, upload locations, pages and token realms that name any host. The rules:
addresses of a more private class than the registry's own are never contacted; TLS is never given up; credentials
never leave the origin they are for.
"""

from __future__ import annotations

import enum
import ipaddress

from lamina.errors import Denied
from lamina.transports.remote.origin import Origin, Url
from lamina.values import dataclass, field


class Refused(Denied):
    """A registry pointed at a place that must not be contacted on its word."""

    def __init__(self, what: str, place: str, why: str, *, hint: str | None = None) -> None:
        super().__init__(f"refused {what} to {place}: {why}", hint=hint)
        self.what, self.place, self.why = what, place, why


class AddressClass(enum.Enum):
    """How far an address reaches."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    SPECIAL = "special"  # link-local (cloud metadata), unspecified, multicast, reserved


def classify(address: str) -> AddressClass:
    """The class of an IP address; IPv4 addresses inside IPv6 ones count as themselves."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
    if ip.is_loopback:
        return AddressClass.LOOPBACK
    if ip.is_link_local or ip.is_unspecified or ip.is_multicast or ip.is_reserved:
        return AddressClass.SPECIAL
    return AddressClass.PUBLIC if ip.is_global else AddressClass.PRIVATE


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def may_contact(address: str, home: str | None) -> bool:
    """Whether an address may be contacted on the word of a registry whose own address is `home` (None: unknown)."""
    wanted = classify(address)
    if wanted is AddressClass.PUBLIC or address == home:
        return True
    return home is not None and wanted is not AddressClass.SPECIAL and wanted is classify(home)


@dataclass(frozen=True, slots=True)
class Trust:
    """What the user allowed beyond the rules.

    Attributes:
        realms: for a registry host, other hosts that its token server may live on.
        upload_hosts: for a registry host, other hosts that uploads may be sent to.
        foreign_layers: fetch layers from the URLs that manifests give (off by default, CVE-2020-15157).
    """

    realms: dict[str, frozenset[str]] = field(default_factory=dict)
    upload_hosts: dict[str, frozenset[str]] = field(default_factory=dict)
    foreign_layers: bool = False


def check_redirect(source: Url, target: Url, *, insecure: bool) -> None:
    """Judge one hop of a redirect.

    Args:
        source: what was asked.
        target: where the answer points.
        insecure: the user said that this registry may go without TLS.

    Raises:
        Refused: from https to http on a registry that is not marked insecure (threat 43).
    """
    if source.origin.secure and not target.origin.secure and not insecure:
        raise Refused(
            "redirect",
            str(target.origin),
            f"it would drop TLS ({source.origin} is https)",
            hint="mark the registry as insecure if that is meant",
        )


def check_upload_location(registry: Origin, target: Url, trust: Trust) -> None:
    """Judge where the body of an upload may go (threat 41).

    Raises:
        Refused: another origin that the user did not configure.
    """
    if target.origin == registry:
        return
    allowed = trust.upload_hosts.get(registry.host, frozenset())
    if target.origin.host in allowed and target.origin.scheme in {"https", registry.scheme}:
        return
    raise Refused(
        "upload",
        str(target.origin),
        f"registry {registry} sent its upload location to another origin",
        hint="if a proxy stands before the registry, let it announce its public name, or configure the upload host",
    )


def check_link(page: Url, target: Url) -> None:
    """Judge the next page of a listing (threat 44).

    Raises:
        Refused: another origin.
    """
    if target.origin != page.origin:
        raise Refused("next page", str(target.origin), f"the listing lives on {page.origin}")


def check_foreign(target: Url, trust: Trust) -> None:
    """Judge a layer URL out of a manifest (threat 45).

    Raises:
        Refused: foreign layers are off, or the URL is not https.
    """
    if not trust.foreign_layers:
        raise Refused("foreign layer", target.redacted(), "fetching layers from URLs in manifests is off")
    if not target.origin.secure:
        raise Refused("foreign layer", target.redacted(), "only https is allowed")


def keeps_authorization(source: Origin, target: Origin) -> bool:
    """Whether Authorization may follow a redirect: only within one origin (threat 42)."""
    return source == target
