"""White space as the Dockerfile grammar knows it; Python's own notion also counts control characters 0x1c-0x1f."""

from __future__ import annotations

import re
from typing import Final

#: Every character with the Unicode property White_Space.
SPACES: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_GAP = re.compile(r"[\t\v\f\r ]+")


def is_space(char: str) -> bool:
    """Whether one character is white space."""
    return char in SPACES


def trim(text: str) -> str:
    """Without white space at both ends."""
    return text.strip(SPACES)


def split_first(text: str) -> tuple[str, str | None]:
    """The first word and what follows the gap after it; None when there is no gap."""
    parts = _GAP.split(text, maxsplit=1)
    return (parts[0], parts[1]) if len(parts) == 2 else (parts[0], None)


def split_all(text: str) -> list[str]:
    """The words of a text that has no white space at its ends; [] when it is empty."""
    return _GAP.split(text) if text else []
