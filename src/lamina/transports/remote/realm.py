"""Whether a token realm may see credentials, or be asked at all (threat 39). Pure decisions, no I/O."""

from __future__ import annotations

import ipaddress
from typing import Final

from lamina.transports.remote.origin import Origin, Url
from lamina.transports.remote.policy import Refused, Trust

#: Second-level labels under which countries register names (co.uk, com.br, ...).
_SECOND_LEVEL: Final = frozenset("ac asso co com ed edu gob gouv gov govt go id info ltd me mil ne net nom or org plc sch".split())  # fmt: skip  # noqa: E501, SIM905
#: Domains whose subdomains belong to different customers: there, only the very same host is the same party.
_SHARED: Final = (
    "amazonaws.com",
    "appspot.com",
    "azure.com",
    "azurecontainer.io",
    "azurecr.io",
    "azurewebsites.net",
    "cloudapp.net",
    "cloudflare.net",
    "cloudfront.net",
    "compute.internal",
    "digitaloceanspaces.com",
    "duckdns.org",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "googleapis.com",
    "herokuapp.com",
    "local",
    "localhost",
    "netlify.app",
    "ngrok.io",
    "nip.io",
    "no-ip.org",
    "onrender.com",
    "pages.dev",
    "pkg.dev",
    "r2.dev",
    "run.app",
    "sslip.io",
    "vercel.app",
    "windows.net",
    "workers.dev",
    "xip.io",
)


def is_ip(host: str) -> bool:
    """Whether a host is an IP address, in any spelling that resolvers accept (`0x7f.1`, `2130706433`)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        last = host.rpartition(".")[2]
        return last.isdigit() or last.startswith("0x")
    return True


def registrable(host: str) -> str:
    """The part of a name that one party registered: `auth.example.co.uk` -> `example.co.uk`.

    Errs on the side of a longer name, which only ever forbids.
    """
    labels = host.split(".")
    if is_ip(host) or len(labels) < 2:
        return host
    if any(host == shared or host.endswith("." + shared) for shared in _SHARED):
        return host
    if len(labels) >= 3 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL:
        return ".".join(labels[-3:])
    return ".".join(labels[-2:])


def check_realm(realm: str, registry: Origin, trust: Trust, *, credentials: bool) -> Url:
    """Judge the realm of a Bearer challenge.

    Args:
        realm: as the registry sent it.
        registry: who sent it.
        trust: realms that the user configured.
        credentials: whether a password or refresh token would be sent along.

    Returns:
        The parsed realm.

    Raises:
        BadUrl: no http(s) URL.
        Refused: a weaker scheme, an IP address other than the registry's, or credentials for a stranger.
    """
    url = Url.parse(realm)
    place, host = url.redacted(), url.origin.host
    if registry.secure and not url.origin.secure:
        raise Refused("token request", place, f"it would drop TLS (registry {registry})")
    if host == registry.host or host in trust.realms.get(registry.host, frozenset()):
        return url
    if is_ip(host) or host == "localhost":
        raise Refused("token request", place, f"registry {registry} names another machine by address")
    if registrable(host) == registrable(registry.host):
        return url
    if credentials:
        raise Refused(
            "to send credentials",
            place,
            f"registry {registry} names a token server of another domain",
            hint=f"if {host} is meant to see them, configure it as a trusted realm of {registry.host}",
        )
    return url
