"""When to try again and how long to wait before (fault F19). Pure: the caller sleeps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from lamina.transports.remote.settings import Patience

RETRY_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


def retry_after(header: str, now: float) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, section 10.2.3); None when absent or unreadable."""
    header = header.strip()
    if not header:
        return None
    if header.isascii() and header.isdigit():
        return float(header[:9])
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(now, UTC)).total_seconds())


class Retrying:
    """The patience left for one request."""

    def __init__(self, patience: Patience, jitter: Callable[[], float], clock: Callable[[], float]) -> None:
        self._patience, self._jitter, self._clock = patience, jitter, clock
        self._tries, self._waited = 1, 0.0

    def next_wait(self, header: str = "") -> float | None:
        """Seconds to wait before the next try, or None to give up.

        Waits grow from the floor by doubling, with jitter; a Retry-After raises them, never below the floor.
        """
        patience = self._patience
        asked = retry_after(header, self._clock())
        if self._tries >= patience.attempts or (asked is not None and asked > patience.ceiling):
            return None
        wait: float = patience.floor * float(2 ** (self._tries - 1))
        wait = max(asked or 0.0, wait) + wait * self._jitter()
        if self._waited + wait > patience.budget:
            return None
        self._tries += 1
        self._waited += wait
        return wait
