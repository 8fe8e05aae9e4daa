"""How this engine talks to registries: credentials, proxies, certificates and trust, gathered from its settings."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lamina import __version__
from lamina.engine.settings import Settings
from lamina.transports.remote.client import Client
from lamina.transports.remote.dockerconfig import DockerConfig
from lamina.transports.remote.settings import ClientSettings, Proxies

#: Comma-separated hosts, host:port or CIDR blocks that may lack TLS, like dockerd's `insecure-registries`.
INSECURE_VARIABLE = "LAMINA_INSECURE_REGISTRIES"


def client_of(settings: Settings) -> Client:
    """A registry client; close it after use."""
    return Client(client_settings(settings))


def client_settings(settings: Settings) -> ClientSettings:
    """What the client is told."""
    certificates = [os.path.join(settings.config_dir, "certs.d"), "/etc/docker/certs.d", "/etc/containers/certs.d"]
    insecure = [entry.strip() for entry in settings.env.get(INSECURE_VARIABLE, "").split(",")]
    return ClientSettings(
        credentials=docker_config(settings),
        insecure=tuple(entry for entry in insecure if entry),
        certs_dirs=certificates,
        proxies=proxies_of(settings.env),
        user_agent=f"lamina/{__version__}",
    )


def docker_config(settings: Settings) -> DockerConfig:
    """Docker's config.json as the store of credentials."""
    return DockerConfig(settings.config_dir, dict(settings.env))


def proxies_of(env: Mapping[str, str]) -> Proxies:
    """Proxies as curl and Go read them: lower case wins, and upper-case HTTP_PROXY counts too."""

    def pick(name: str) -> str:
        return env.get(name) or env.get(name.upper()) or ""

    return Proxies(http=pick("http_proxy"), https=pick("https_proxy"), no_proxy=pick("no_proxy"))
