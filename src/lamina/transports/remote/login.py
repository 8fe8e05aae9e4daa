"""Trying credentials against a registry, before they are stored (S49)."""

from __future__ import annotations

from lamina.transports.remote.auth import LoginFailed
from lamina.transports.remote.client import Client
from lamina.transports.remote.credentials import Credential, FixedCredentials
from lamina.transports.remote.failures import AccessDenied, LoginNeeded


def try_login(client: Client, host: str, credential: Credential) -> None:
    """Check a credential with the registry; nothing is stored.

    Raises:
        LoginFailed: it is wrong.
        Unreachable: the registry cannot be asked.
    """
    trial = client.with_settings(credentials=FixedCredentials({host: credential}))
    try:
        trial.session(host).ping()
    except (LoginNeeded, AccessDenied) as error:
        text = str(error.answer) if error.answer.errors else "incorrect username or password"
        problem = text.removeprefix("unauthorized: ")
        raise LoginFailed(host, problem) from None
    finally:
        trial.close()
