"""The kinds of failure that lamina knows.

There are few kinds and every edge maps all of them: the command line to exit codes, the registry to OCI error
codes and HTTP status, the Engine API to Docker's status. Concrete classes live beside the code that raises them,
inherit from exactly one kind, and carry their facts as attributes, so callers test identity and never text.

    LaminaError
     +- NotFound       the named thing does not exist
     +- AlreadyExists  the name is taken
     +- Invalid        the input is malformed or makes no sense
     +- Integrity      bytes do not match their digest, size or structure
     +- Unauthorized   who are you?
     +- Denied         I know who you are, and no
     +- Unsupported    valid, but this build or this machine cannot do it
     +- Conflict       the thing is in a state (or in use) that forbids it
     +- Unavailable    a peer, a disk or a program cannot be reached right now
     +- LimitExceeded  more bytes, entries, depth or time than the limit allows
     +- Cancelled      the caller gave up
     +- Internal       a bug in lamina
"""

from __future__ import annotations


class LaminaError(Exception):
    """Root of all errors raised on purpose.

    Attributes:
        hint: one sentence on the way out, or None. Edges print it after the message.
    """

    hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint

    @property
    def message(self) -> str:
        """The message without the hint."""
        return str(self.args[0]) if self.args else type(self).__name__


class NotFound(LaminaError):
    """The named thing does not exist."""


class AlreadyExists(LaminaError):
    """The name is taken."""


class Invalid(LaminaError):
    """The input is malformed or makes no sense."""


class Integrity(LaminaError):
    """Bytes do not match their digest, size or structure."""


class Unauthorized(LaminaError):
    """Credentials are missing or wrong."""


class Denied(LaminaError):
    """The credentials are good and do not suffice."""


class Unsupported(LaminaError):
    """Valid input that this build, or this machine, cannot serve."""


class Conflict(LaminaError):
    """The current state of the thing, or its use by another, forbids the operation."""


class Unavailable(LaminaError):
    """A peer, a disk or a program cannot be reached right now."""


class LimitExceeded(LaminaError):
    """More bytes, entries, depth or time than the limit allows."""


class Cancelled(LaminaError):
    """The caller gave up."""


class Internal(LaminaError):
    """A bug in lamina."""


KINDS: tuple[type[LaminaError], ...] = (
    NotFound,
    AlreadyExists,
    Invalid,
    Integrity,
    Unauthorized,
    Denied,
    Unsupported,
    Conflict,
    Unavailable,
    LimitExceeded,
    Cancelled,
    Internal,
)


def kind_of(error: LaminaError) -> type[LaminaError]:
    """The kind of an error; every edge's mapping table is keyed by it."""
    return next((kind for kind in KINDS if isinstance(error, kind)), Internal)
