"""What goes wrong between us and a registry, as errors with facts, in Docker's words where scripts know them."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.errors import Denied, Invalid, LaminaError, LimitExceeded, NotFound, Unauthorized, Unavailable, Unsupported
from lamina.spec.distribution import WireError, decode_errors
from lamina.transports.remote.challenge import parse_challenges


class Unreachable(Unavailable):
    """No answer: refused, unknown host, timeout, TLS trouble, reset.

    Attributes:
        tls: whether the TLS handshake failed, so that the peer may be speaking plain HTTP.
        retryable: whether trying again soon makes sense.
    """

    def __init__(self, method: str, url: str, problem: str, *, tls: bool = False, retryable: bool = False) -> None:
        super().__init__(f'{method.capitalize()} "{url}": {problem}')
        self.url, self.problem, self.tls, self.retryable = url, problem, tls, retryable


class Answer:
    """The facts of a failed request.

    Attributes:
        status: HTTP status.
        errors: the entries of the body.
        method, url: what was asked; the URL without its query.
    """

    def __init__(self, status: int, errors: Sequence[WireError], method: str, url: str) -> None:
        self.status, self.errors, self.method, self.url = status, tuple(errors), method, url

    @property
    def code(self) -> str:
        """The first error code, "" when the body had none."""
        return self.errors[0].code if self.errors else ""

    def __str__(self) -> str:
        """Docker's rendering: `manifest unknown: manifest unknown`."""
        if self.errors:
            return "\n".join(_render(error) for error in self.errors[:5])
        return f'{self.method.capitalize()} "{self.url}": unexpected status {self.status}'


class _Answered:
    """Mixed into the errors below."""

    answer: Answer


class Missing(NotFound, _Answered):
    """404: no such manifest, blob, upload or repository."""


class AccessDenied(Denied, _Answered):
    """403, or a token that does not cover the request."""


class LoginNeeded(Unauthorized, _Answered):
    """401 after all that could be done about it."""


class RateLimited(Unavailable, _Answered):
    """429 until our patience ended."""


class RegistryFailed(Unavailable, _Answered):
    """5xx until our patience ended."""


class Rejected(Invalid, _Answered):
    """The registry thinks the request is wrong."""


class NotOffered(Unsupported, _Answered):
    """405, or UNSUPPORTED."""


class TooLarge(LimitExceeded, _Answered):
    """413."""


class PullAccessDenied(AccessDenied):
    """Docker's answer to a repository that does not exist, or not for us."""


class ManifestNotFound(Missing):
    """The repository is there, the tag or digest is not."""


class RepositoryNotFound(Missing):
    """The registry knows no such repository."""


def answer_of(status: int, challenges: Sequence[str], body: bytes, method: str, url: str) -> Answer:
    """Read the facts of a failed response."""
    errors = decode_errors(body)
    if status == 401 and any(
        challenge.parameters.get("error") == "insufficient_scope" for challenge in parse_challenges(challenges)
    ):
        errors = [WireError("DENIED", "requested access to the resource is denied")]
    return Answer(status, errors, method, url)


def error_of(answer: Answer) -> LaminaError:
    """The error for a failed response."""
    kind = _kind(answer)
    error = kind(str(answer))
    error.answer = answer
    return error


def _kind(
    answer: Answer,
) -> type[Missing | AccessDenied | LoginNeeded | RateLimited | RegistryFailed | Rejected | NotOffered | TooLarge]:
    if answer.code == "DENIED" or answer.status == 403:
        return AccessDenied
    if answer.code == "TOOMANYREQUESTS":
        return RateLimited
    if answer.code == "UNSUPPORTED":
        return NotOffered
    match answer.status:
        case 401:
            return LoginNeeded
        case 404:
            return Missing
        case 405:
            return NotOffered
        case 413:
            return TooLarge
        case 429:
            return RateLimited
        case status if status >= 500 or status < 400:
            return RegistryFailed
        case _:
            return Rejected


def for_pull(error: LaminaError, familiar: str, repository: str) -> LaminaError:
    """Say what a failed manifest request means to someone who pulls, as dockerd does.

    Args:
        error: what the request raised.
        familiar: the reference as people write it, with tag or digest.
        repository: the same without.
    """
    if isinstance(error, LoginNeeded | AccessDenied) and error.answer.code in {"DENIED", ""}:
        text = str(error.answer) if error.answer.code else "denied: requested access to the resource is denied"
        denied = PullAccessDenied(
            f"pull access denied for {repository}, repository does not exist or may require 'docker login': {text}"
        )
        denied.answer = error.answer
        return denied
    if isinstance(error, Missing):
        unknown = error.answer.code == "NAME_UNKNOWN"
        kind = RepositoryNotFound if unknown else ManifestNotFound
        what = f"repository {repository}" if unknown else f"manifest for {familiar}"
        text = str(error.answer) if error.answer.errors else "manifest unknown: manifest unknown"
        missing = kind(f"{what} not found: {text}")
        missing.answer = error.answer
        return missing
    return error


def _render(error: WireError) -> str:
    code = error.code.lower().replace("_", " ")
    message = "".join(char if char.isprintable() else " " for char in error.message[:500])
    return f"{code}: {message}" if message else code
