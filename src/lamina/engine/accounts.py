"""Accounts at registries: try credentials, keep them where Docker does, forget them (S49)."""

from __future__ import annotations

from lamina.engine.registries import client_settings, docker_config
from lamina.engine.settings import Settings
from lamina.errors import Unavailable
from lamina.spec.reference import DOCKER_HUB, Reference
from lamina.transports.remote.client import Client
from lamina.transports.remote.credentials import Credential
from lamina.transports.remote.dockerconfig import Stored
from lamina.transports.remote.helper import HelperFailed
from lamina.transports.remote.login import try_login

_HUB_NAMES = {"", "docker.io", "index.docker.io", "registry-1.docker.io"}


class NotKept(Unavailable):
    """The registry takes the credentials, but the helper that shall keep them fails."""

    def __init__(self, cause: HelperFailed) -> None:
        super().__init__(f"Error saving credentials: {cause.message}")


class Accounts:
    """Logins of one user."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._config = docker_config(settings)

    def host_of(self, server: str) -> str:
        """The registry a user means: a host, a URL, or nothing for Docker Hub.

        Raises:
            InvalidReference: no registry can be called that.
        """
        host = server.removeprefix("https://").removeprefix("http://").split("/", 1)[0]
        if host in _HUB_NAMES:
            return DOCKER_HUB
        # The grammar of references decides what a host is, so that login and pull cannot disagree (threat 47).
        Reference.parse(f"{host}/x" if "." in host or ":" in host or host == "localhost" else f"{host}:443/x")
        return host

    def known(self, server: str) -> Credential | None:
        """The stored credential for a registry, if any; a helper that fails has none."""
        try:
            return self._config.get(self.host_of(server))
        except HelperFailed:
            return None

    def login(self, server: str, username: str, password: str) -> Stored:
        """Try a password with the registry and keep it.

        Raises:
            LoginRefused: the registry does not take it; nothing is stored.
            Unreachable: the registry cannot be asked.
            NotKept: it is right, and could not be stored.
        """
        host = self.host_of(server)
        credential = Credential(username=username, password=password)
        with Client(client_settings(self._settings)) as client:
            try_login(client, host, credential)
        try:
            return self._config.store(host, credential)
        except HelperFailed as error:
            raise NotKept(error) from None

    def logout(self, server: str) -> bool:
        """Forget a registry; False when it was not known. Raises HelperFailed."""
        return self._config.erase(self.host_of(server))
