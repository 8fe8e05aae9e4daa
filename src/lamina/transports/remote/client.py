"""Sessions with registries: authentication, redirects and patience around single exchanges.

A `Session` is everything known about one registry: where it answers, what it wants to hear, which tokens we hold. All
sources and sinks of that registry share it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any, Final

from lamina.errors import Denied, Invalid, Unauthorized
from lamina.spec.distribution import API_VERSION_HEADER
from lamina.transports.remote.auth import Authenticator, TokenReply, TokenRequest, TokenServerFailed
from lamina.transports.remote.challenge import Challenge, parse_challenges
from lamina.transports.remote.failures import Unreachable, answer_of, error_of
from lamina.transports.remote.origin import Origin, Url, api_origin
from lamina.transports.remote.policy import Refused, check_redirect
from lamina.transports.remote.protocol import Call, ping
from lamina.transports.remote.retry import RETRY_STATUS, Retrying
from lamina.transports.remote.secrets import Secrets
from lamina.transports.remote.settings import ClientSettings
from lamina.transports.remote.wire import Request, Response, Wire
from lamina.values import replace

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PROBE_TIMEOUT: Final = 5.0


class Session:
    """A conversation with one registry. Safe to use from several threads.

    Attributes:
        secrets: what it was told and must not be shown; no error of `fetch` and `call` has any of it.
    """

    def __init__(self, host: str, settings: ClientSettings) -> None:
        self.host, self.settings = host, settings
        secure = api_origin(host, "https")
        self._wire = Wire(settings, secure.host)
        plain = api_origin(host, "http")
        self._insecure = settings.is_insecure(secure.host, secure.port) or settings.is_insecure(plain.host, plain.port)
        self._origin: Origin | None = None if self._insecure else secure
        self._lock = threading.Lock()
        self._guards: dict[Origin, Authenticator] = {}
        self.secrets = Secrets()

    @property
    def origin(self) -> Origin:
        """Where the registry answers. For registries that may lack TLS the first use finds out which it is.

        Raises:
            Unreachable: it answers neither way.
        """
        with self._lock:
            if self._origin is None:
                self._origin = self._probe()
            return self._origin

    def _probe(self) -> Origin:
        secure = api_origin(self.host, "https")
        try:
            self._wire.send(Request("GET", Url(secure, ping().target)), read_timeout=_PROBE_TIMEOUT).close()
        except Unreachable:
            return api_origin(self.host, "http")
        return secure

    def url(self, target: str) -> Url:
        """An absolute URL on this registry."""
        return Url(self.origin, target)

    def call(self, call: Call) -> Response:
        """Carry out a call on this registry; see `fetch`."""
        return self.fetch(call, self.url(call.target))

    def fetch(self, call: Call, url: Url) -> Response:
        """Carry out a call at a URL: authenticate, follow redirects, try again while it is worth it.

        Returns:
            a response whose status is in `call.expect`; the caller reads and closes it.

        Raises:
            Unreachable: no answer, after all tries.
            LaminaError: the error that `failures.error_of` makes of the answer.
            Refused: the registry pointed somewhere it must not.
        """
        with self.secrets.kept():
            return self._fetch(call, url)

    def _fetch(self, call: Call, url: Url) -> Response:
        retrying = Retrying(self.settings.patience, self.settings.jitter, self.settings.clock)
        while True:
            try:
                response = self._exchange(call, url)
            except Unreachable as error:
                wait = retrying.next_wait() if call.retry and error.retryable else None
                if wait is None:
                    raise
            except TokenServerFailed as error:
                wait = retrying.next_wait(error.retry_after) if error.status in RETRY_STATUS else None
                if wait is None:
                    raise
            else:
                if response.status in call.expect:
                    return response
                wait = None
                if response.status in RETRY_STATUS and call.retry:
                    wait = retrying.next_wait(response.header("Retry-After"))
                if wait is None:
                    raise self._failure(response)
                response.head_of_body(self.settings.limits.error)
            self.settings.sleep(wait)

    def _failure(self, response: Response) -> Exception:
        challenges = response.headers("WWW-Authenticate")
        request = response.request
        body = response.head_of_body(self.settings.limits.error) if request.method != "HEAD" else b""
        response.close()
        body, place = self.secrets.struck_bytes(body), self.secrets.struck(request.url.redacted())
        failure = error_of(answer_of(response.status, challenges, body, request.method, place))
        if isinstance(failure, Unauthorized | Denied) and (trouble := self._guard(request.url.origin).trouble):
            failure.hint = trouble
        return failure

    def _exchange(self, call: Call, url: Url) -> Response:
        """One try: at most one authentication for each origin on the way, and a bounded number of hops."""
        asked: set[Origin] = set()
        for _hop in range(2 * self.settings.limits.redirects + 2):
            guard = self._guard(url.origin)
            header = self._known_authorization(guard, call)
            headers = dict(call.headers) | ({"Authorization": header} if header else {})
            self.secrets.sent(header or "")
            response = self._wire.send(Request(call.method, url, headers, call.body))
            if response.status == 401 and url.origin not in asked:
                asked.add(url.origin)
                challenges = parse_challenges(response.headers("WWW-Authenticate"))
                if challenges and self._renew(guard, challenges, call, header, response):
                    continue
                return response
            location = response.header("Location")
            if not (call.follow and response.status in _REDIRECTS and location):
                return response
            response.head_of_body(self.settings.limits.error)
            target = Url.parse(location, url)
            check_redirect(url, target, insecure=self._insecure)
            url = target
        raise Refused("redirect", url.redacted(), f"more than {self.settings.limits.redirects} hops")

    def _guard(self, origin: Origin) -> Authenticator:
        """Authentication is per origin; only the registry itself ever sees our credentials (threat 42)."""
        with self._lock:
            guard = self._guards.get(origin)
            if guard is None:
                settings = self.settings
                home = origin == self._origin
                find: Callable[[], Any] = (lambda: settings.credentials.get(self.host)) if home else (lambda: None)
                guard = self._guards[origin] = Authenticator(origin, find, settings.trust, settings.clock)
            return guard

    def _known_authorization(self, guard: Authenticator, call: Call) -> str | None:
        header = guard.authorization(call.scopes)
        if header is None and guard.knows_realm and call.scopes:
            with guard.lock:
                header = guard.authorization(call.scopes) or self._drive(guard.negotiate((), call.scopes))
        return header

    def _renew(
        self, guard: Authenticator, challenges: list[Challenge], call: Call, used: str | None, response: Response
    ) -> bool:
        """Get an Authorization that the registry has not refused yet; False when there is none to be had."""
        if used is not None and used.startswith("Basic "):
            return False
        with guard.lock:
            guard.forget(used)
            fresh = guard.authorization(call.scopes)  # another thread may have been first
            if fresh is None:
                if any(challenge.parameters.get("error") == "insufficient_scope" for challenge in challenges) and used:
                    return False
                response.head_of_body(self.settings.limits.error)
                fresh = self._drive(guard.negotiate(challenges, call.scopes))
            else:
                response.close()
        return fresh != used

    def _drive(self, dance: Generator[TokenRequest, TokenReply, str]) -> str:
        """Carry out the exchanges that a dance asks for."""
        try:
            request = next(dance)
            while True:
                request = dance.send(self._ask(request))
        except StopIteration as stop:
            return str(stop.value)

    def _ask(self, request: TokenRequest) -> TokenReply:
        url, headers = request.url, request.headers
        self.secrets.sent(headers.get("Authorization", ""), request.body)
        for _hop in range(self.settings.limits.redirects + 1):
            response = self._wire.send(Request(request.method, url, headers, request.body or None))
            location = response.header("Location")
            if response.status not in _REDIRECTS or not location:
                retry_after = response.header("Retry-After")
                if response.status != 200:
                    body = self.secrets.struck_bytes(response.head_of_body(self.settings.limits.error))
                    return TokenReply(response.status, body, retry_after)
                return TokenReply(200, response.read_all(self.settings.limits.token, f"token from {url.redacted()}"))
            response.head_of_body(self.settings.limits.error)
            target = Url.parse(location, url)
            # A token server that redirects is judged on every hop, and no secret goes along (threat 40).
            check_redirect(url, target, insecure=self._insecure)
            if request.method != "GET":
                raise Refused("redirect of a token request", target.redacted(), "it would carry a secret")
            if target.origin != url.origin:
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise Refused("redirect of a token request", url.redacted(), "too many hops")

    def ping(self) -> str:
        """Check that a registry answers and lets us in; returns its API version header.

        Raises:
            LoginNeeded, LoginFailed, NoCredentialsGiven: it does not know us.
        """
        response = self.call(ping())
        version = response.header(API_VERSION_HEADER)
        response.close()
        return version

    def close(self) -> None:
        """Drop all connections."""
        self._wire.close()


class Client:
    """All sessions of one process. Safe to use from several threads."""

    def __init__(self, settings: ClientSettings | None = None) -> None:
        self.settings = settings or ClientSettings()
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def session(self, host: str) -> Session:
        """The session with a registry, called as references call it (`docker.io`, `localhost:5000`)."""
        if not host:
            raise Invalid("a registry needs a name")
        with self._lock:
            found = self._sessions.get(host)
            if found is None:
                found = self._sessions[host] = Session(host, self.settings)
            return found

    def with_settings(self, **changes: Any) -> Client:
        """A client of its own with some settings changed, for a login that tries a password."""
        return Client(replace(self.settings, **changes))

    def close(self) -> None:
        """Drop all connections."""
        with self._lock:
            for session in self._sessions.values():
                session.close()
            self._sessions.clear()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
