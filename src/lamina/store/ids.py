"""Names that are never given twice."""

from __future__ import annotations

import os


def fresh() -> str:
    """32 hex characters from the system's random source, as a random UUID has them, without importing uuid."""
    return os.urandom(16).hex()
