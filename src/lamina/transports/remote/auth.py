"""Registry authentication without I/O: Basic, and the Bearer token dance (features S51, R16).

`Authenticator.negotiate` is a generator: it yields the requests that the dance needs and is sent the replies, so the
same code serves any client and tests need no server. Tokens are kept by scope until shortly before they expire.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from lamina.errors import Unauthorized, Unavailable
from lamina.spec.distribution import decode_errors
from lamina.transports.remote.challenge import Challenge
from lamina.transports.remote.credentials import Credential
from lamina.transports.remote.helper import HelperFailed
from lamina.transports.remote.origin import Origin, Url
from lamina.transports.remote.policy import Trust
from lamina.transports.remote.realm import check_realm
from lamina.values import dataclass, field

#: What the token specification lets a server leave out, in seconds.
DEFAULT_LIFE: Final = 60.0
_CLIENT_ID: Final = "lamina"


class NoCredentialsGiven(Unauthorized):
    """The registry wants a user name and password and we have none.

    Attributes:
        registry: which.
    """

    def __init__(self, registry: Origin, trouble: str = "") -> None:
        """Args: `trouble` is why the credentials that may be stored could not be read."""
        login = f"log in first: lamina login {str(registry).partition('://')[2]}"
        super().__init__("no basic auth credentials", hint=trouble or login)
        self.registry = registry


class LoginFailed(Unauthorized):
    """The token server, or the registry, refused the credentials."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"unauthorized: {problem}")
        self.place = place


class TokenServerFailed(Unavailable):
    """The token server answered something unusable.

    Attributes:
        status: the HTTP status.
        retry_after: the Retry-After header, "" when absent.
    """

    def __init__(self, place: str, status: int, problem: str, retry_after: str = "") -> None:
        super().__init__(f"failed to fetch a token from {place}: {problem}")
        self.place, self.status, self.retry_after = place, status, retry_after


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What to send to a token server."""

    method: str
    url: Url
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class TokenReply:
    """What it answered; the body is cut at the caller's limit."""

    status: int
    body: bytes = field(repr=False)
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """A Bearer token, good for `scopes` until `expires` (seconds since the epoch)."""

    value: str = field(repr=False)
    scopes: frozenset[str]
    expires: float


def pull_scope(repository: str) -> str:
    """The scope that reading a repository needs."""
    return f"repository:{repository}:pull"


def push_scope(repository: str) -> str:
    """The scope that writing a repository needs."""
    return f"repository:{repository}:pull,push"


def delete_scope(repository: str) -> str:
    """The scope that deleting from a repository needs."""
    return f"repository:{repository}:delete,pull"


CATALOG_SCOPE: Final = "registry:catalog:*"

Dance = Generator[TokenRequest, TokenReply, str]


class Authenticator:
    """What one origin wants from us and what we hold for it. Safe to use from several threads.

    Attributes:
        trouble: why stored credentials could not be read, "" when they could.
    """

    def __init__(
        self,
        registry: Origin,
        credential: Callable[[], Credential | None],
        trust: Trust,
        clock: Callable[[], float],
        service_account: str = "",
    ) -> None:
        self.registry, self.trust, self.clock = registry, trust, clock
        self._find, self._account = credential, service_account
        self._credential: Credential | None = None
        self._looked_up = False
        self.trouble = ""
        self._basic = False
        self._bearer: Challenge | None = None
        self._tokens: list[Token] = []
        self.lock = threading.Lock()

    @property
    def credential(self) -> Credential | None:
        """Looked up once, and only when the registry asks.

        A helper that fails makes us anonymous, as it does docker: what is public must stay reachable on a machine to
        which a config.json was copied without its helper. `trouble` says why.
        """
        if not self._looked_up:
            try:
                self._credential = self._find()
            except HelperFailed as error:
                self.trouble = error.message
            self._looked_up = True
        return self._credential

    def authorization(self, scopes: Iterable[str]) -> str | None:
        """The header for a request, from what is known already; None when nothing is."""
        if self._basic and self.credential:
            return _basic(self.credential)
        wanted, now = frozenset(scopes), self.clock()
        for token in self._tokens:
            if wanted <= token.scopes and token.expires > now:
                return f"Bearer {token.value}"
        return None

    @property
    def knows_realm(self) -> bool:
        """Whether a token can be fetched before the registry says 401."""
        return self._bearer is not None

    def forget(self, header: str | None) -> None:
        """Drop the token that a registry has just refused."""
        value = (header or "").removeprefix("Bearer ")
        self._tokens = [token for token in self._tokens if token.value != value]

    def negotiate(self, challenges: Sequence[Challenge], scopes: Sequence[str]) -> Dance:
        """Answer a 401, or (with no challenges) fetch another token from the realm known already.

        Yields:
            requests for the token server.

        Returns:
            the Authorization header.

        Raises:
            Refused, BadUrl: the realm must not be contacted (threat 39).
            NoCredentialsGiven, LoginFailed: we are nobody to this registry.
            TokenServerFailed: the token server does not do its work.
        """
        bearer = next((challenge for challenge in challenges if challenge.scheme == "bearer"), None)
        if not challenges:
            bearer = self._bearer
        if bearer is not None and bearer.realm:
            return (yield from self._token(bearer, scopes))
        if any(challenge.scheme == "basic" for challenge in challenges):
            if not self.credential or not self.credential.username:
                raise NoCredentialsGiven(self.registry, self.trouble)
            self._basic = True
            return _basic(self.credential)
        raise LoginFailed(str(self.registry), "the registry asks for an unknown kind of authentication")

    def _token(self, bearer: Challenge, scopes: Sequence[str]) -> Dance:
        credential = self.credential
        if credential and credential.registry_token:
            return self._keep(credential.registry_token, scopes, self.clock() + 3600)
        secret = credential if credential and not credential.empty else None
        realm = check_realm(bearer.realm, self.registry, self.trust, credentials=secret is not None)
        wanted = list(dict.fromkeys([*scopes, *([] if scopes else bearer.parameters.get("scope", "").split())]))
        service = bearer.parameters.get("service", "")
        request = (
            _refresh(realm, service, wanted, secret.identity_token)
            if secret and secret.identity_token
            else _get(realm, service, wanted, secret)
        )
        reply = yield request
        if reply.status in {404, 405} and secret and secret.identity_token and secret.username and secret.password:
            reply = yield _get(realm, service, wanted, secret)
        value, life = _read(reply, realm, secret is not None)
        self._bearer = bearer
        # Clocks and round trips differ a little: give a token up in its last tenth.
        return self._keep(value, wanted, self.clock() + life * 0.9)

    def _keep(self, value: str, scopes: Sequence[str], expires: float) -> str:
        now = self.clock()
        self._tokens = [token for token in self._tokens if token.expires > now]
        self._tokens.append(Token(value, frozenset(scopes), expires))
        return f"Bearer {value}"


def _basic(credential: Credential) -> str:
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()


def _get(realm: Url, service: str, scopes: Sequence[str], secret: Credential | None) -> TokenRequest:
    """The GET form (distribution, token specification)."""
    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    headers: dict[str, str] = {}
    if secret and secret.username:
        query.append(("account", secret.username))
        headers["Authorization"] = _basic(secret)
    return TokenRequest("GET", realm.with_query(urlencode(query)), headers)


def _refresh(realm: Url, service: str, scopes: Sequence[str], token: str) -> TokenRequest:
    """The OAuth2 POST form, for identity tokens."""
    form = {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": _CLIENT_ID,
        "scope": " ".join(scopes),
        "refresh_token": token,
    }
    return TokenRequest("POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(form).encode())


def _read(reply: TokenReply, realm: Url, with_secret: bool) -> tuple[str, float]:
    """The token of a reply and how long it lives, in seconds from now."""
    place = realm.redacted()
    if reply.status in {400, 401, 403} and with_secret:
        errors = decode_errors(reply.body)
        raise LoginFailed(place, errors[0].message if errors and errors[0].message else _OAUTH_REFUSED)
    if reply.status in {401, 403}:
        raise LoginFailed(place, "authentication required")
    if reply.status != 200:
        raise TokenServerFailed(place, reply.status, f"status {reply.status}", reply.retry_after)
    try:
        document: Any = json.loads(reply.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise TokenServerFailed(place, reply.status, "the answer is no JSON object")
    value = document.get("token") or document.get("access_token")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise TokenServerFailed(place, reply.status, "the answer holds no token")
    life = document.get("expires_in")
    seconds = float(life) if isinstance(life, (int, float)) and not isinstance(life, bool) else 0.0
    return value, min(max(seconds, DEFAULT_LIFE), 86_400.0)


_OAUTH_REFUSED: Final = "incorrect username or password"

__all__ = [
    "CATALOG_SCOPE",
    "Authenticator",
    "LoginFailed",
    "NoCredentialsGiven",
    "Token",
    "TokenReply",
    "TokenRequest",
    "TokenServerFailed",
    "delete_scope",
    "pull_scope",
    "push_scope",
]
