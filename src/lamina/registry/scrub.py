"""Find bit rot before a client does: read every blob, set the damaged ones aside (F20)."""

from __future__ import annotations

import logging
import threading
from typing import Final

from lamina.registry.content import Content
from lamina.spec.digest import Digest
from lamina.values import dataclass, field

logger = logging.getLogger("lamina.registry")
_MIB: Final = 1 << 20


@dataclass(slots=True)
class ScrubReport:
    """What one pass saw: how many blobs, how many bytes, which were damaged."""

    blobs: int = 0
    bytes: int = 0
    damaged: list[Digest] = field(default_factory=list)


class Scrubber:
    """One pass at a time over everything stored; `pause` seconds of rest for each MiB read."""

    def __init__(self, content: Content, *, pause: float = 0.0) -> None:
        self._content, self._pause, self._stop = content, pause, threading.Event()

    def stop(self) -> None:
        """End a running pass after the blob that it is at."""
        self._stop.set()

    def run(self) -> ScrubReport:
        """Verify every blob. A damaged one is not served any more and is repaired by the next push of it."""
        report = ScrubReport()
        for digest, size in self._content.driver.list():
            if self._stop.wait(self._pause * size / _MIB if self._pause else 0):
                break
            report.blobs += 1
            report.bytes += size
            if not self._content.verify(digest):
                logger.error("blob %s is damaged and was set aside", digest)
                report.damaged.append(digest)
        return report
