"""Trying credentials against a registry, before they are stored (S49)."""

from __future__ import annotations

from http import HTTPStatus

from lamina.errors import Unauthorized
from lamina.transports.remote.auth import LoginFailed
from lamina.transports.remote.client import Client
from lamina.transports.remote.credentials import Credential, FixedCredentials
from lamina.transports.remote.failures import AccessDenied, LoginNeeded


class LoginRefused(Unauthorized):
    """The registry, or its token server, does not take the credentials; in the words of Docker's daemon."""


def try_login(client: Client, host: str, credential: Credential) -> None:
    """Check a credential with the registry; nothing is stored.

    Raises:
        LoginRefused: it is wrong.
        Unreachable: the registry cannot be asked.
    """
    with client.with_settings(credentials=FixedCredentials({host: credential})) as trial:
        session = trial.session(host)
        try:
            session.ping()
        except (LoginNeeded, AccessDenied) as error:
            status = HTTPStatus(error.answer.status)
            text = f"login attempt to {error.answer.url} failed with status: {status.value} {status.phrase}"
            raise LoginRefused(text) from None
        except LoginFailed as error:
            raise LoginRefused(f'Get "{session.url("/v2/").redacted()}": {error.message}') from None
