"""Who we are to a registry: one value, and where it may come from."""

from __future__ import annotations

from typing import Final, Protocol

from lamina.spec.reference import DOCKER_HUB
from lamina.values import dataclass, field

#: The key under which Docker clients keep the credentials of Docker Hub.
HUB_KEY: Final = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name with a password, or a token in its place. Secrets never show in `repr`.

    Attributes:
        username: account name, "" when only a token is known.
        password: password or personal access token.
        identity_token: OAuth2 refresh token, exchanged at the token server.
        registry_token: a ready Bearer token.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (self.username or self.password or self.identity_token or self.registry_token)


class CredentialSource(Protocol):
    """Looks credentials up by registry host, as references write it (`docker.io`, `localhost:5000`)."""

    def get(self, host: str) -> Credential | None:
        """The credential for a registry, or None to go anonymously."""
        ...


class NoCredentials:
    """Everyone is a stranger."""

    def get(self, host: str) -> Credential | None:  # noqa: ARG002
        """Never any."""
        return None


@dataclass(frozen=True, slots=True)
class FixedCredentials:
    """Credentials given by the caller, by registry host; `login` tries a password with it before storing it."""

    by_host: dict[str, Credential]

    def get(self, host: str) -> Credential | None:
        """The one given for that very host."""
        return self.by_host.get(host)


def server_key(host: str) -> str:
    """The key of a registry in config.json and in credential helpers."""
    return HUB_KEY if host == DOCKER_HUB else host
