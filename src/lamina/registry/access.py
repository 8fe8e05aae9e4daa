"""Who may do what: the one question that the HTTP edge asks before it serves. The default lets everybody in."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from lamina.registry.names import Repository


class Action(Enum):
    """What a request wants of a repository; the words of token scopes (R16)."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


class Caller(Protocol):
    """Somebody whose credentials were read."""

    def may(self, action: Action, repository: Repository) -> bool:
        """Whether the action is allowed."""
        ...


class AccessPolicy(Protocol):
    """Reads credentials and says what they allow."""

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """The caller behind a request. Raises Unauthorized when credentials are needed or wrong."""
        ...

    def challenge(self, action: Action | None, repository: Repository | None) -> str:
        """The WWW-Authenticate header of a 401 answer; "" for none."""
        ...


class Everybody:
    """A caller, and a policy, that allows everything."""

    def may(self, _action: Action, _repository: Repository) -> bool:
        """True."""
        return True

    def caller(self, _headers: Mapping[str, str]) -> Caller:
        """Everybody is one caller."""
        return self

    def challenge(self, _action: Action | None, _repository: Repository | None) -> str:
        """Nobody is ever asked."""
        return ""
