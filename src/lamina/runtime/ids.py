"""The ids of containers: random, and never a number where they serve as a host name."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

SHORT_ID: Final = 12
"""Characters of an id that people type and see, and a container's host name unless it is given one."""


def container_id(random: Callable[[int], bytes] = os.urandom) -> str:
    """64 hex characters, of which the first 12 are not all digits.

    Resolvers take a host name of digits only for an address (inet_aton(3)) and never look it up in /etc/hosts; one
    random id in 281 would start like that. dockerd draws again, too (moby, `stringid.GenerateRandomID`).

    Args:
        random: gives so many random bytes.
    """
    while True:
        drawn = random(32).hex()
        if not drawn[:SHORT_ID].isdecimal():
            return drawn
