"""Errors of the command line itself, and the table from error kinds to exit statuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lamina.errors import (
    AlreadyExists,
    Cancelled,
    Conflict,
    Denied,
    Integrity,
    Internal,
    Invalid,
    LaminaError,
    LimitExceeded,
    NotFound,
    Unauthorized,
    Unavailable,
    Unsupported,
)

USAGE_STATUS = 125  # docker: a flag is wrong
INTERRUPTED_STATUS = 130
BROKEN_PIPE_STATUS = 141  # 128 + SIGPIPE, as a shell reports docker


class CliError(Invalid):
    """A command refuses on its own account; the message is printed as it stands, without docker's daemon prefix.

    Attributes:
        status: the exit status.
    """

    def __init__(self, message: str, *, status: int = 1, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class UsageError(CliError):
    """The command line is wrong: status 125 for flags, 1 for arguments and unknown commands."""


class Edge(NamedTuple):
    """How one kind of error leaves the program.

    Attributes:
        status: exit status (docker knows 1 for all refusals of its engine).
        prefixed: printed after `Error response from daemon: `, which scripts match.
    """

    status: int
    prefixed: bool


EDGES: Mapping[type[LaminaError], Edge] = {
    NotFound: Edge(1, prefixed=True),
    AlreadyExists: Edge(1, prefixed=True),
    Invalid: Edge(1, prefixed=True),
    Integrity: Edge(1, prefixed=True),
    Unauthorized: Edge(1, prefixed=True),
    Denied: Edge(1, prefixed=True),
    Unsupported: Edge(1, prefixed=True),
    Conflict: Edge(1, prefixed=True),
    Unavailable: Edge(1, prefixed=True),
    LimitExceeded: Edge(1, prefixed=True),
    Cancelled: Edge(INTERRUPTED_STATUS, prefixed=False),
    Internal: Edge(70, prefixed=False),  # EX_SOFTWARE of sysexits.h: tells a bug from a refusal
}

DAEMON_PREFIX = "Error response from daemon: "
