"""Errors about content that say which file or stream it came from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lamina.errors import Integrity, Invalid, LimitExceeded


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Put `place: ` in front of what is said about bad content while it is read; the error stays the same object.

    Args:
        place: a path, a URL or `standard input`; a message that names it already stays as it is.
    """
    try:
        yield
    except (Integrity, Invalid, LimitExceeded) as error:
        if place and place not in error.message:
            error.args = (f"{place}: {error.message}", *error.args[1:])
        raise
