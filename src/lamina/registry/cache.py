"""Manifests, and the sizes of blobs, kept in memory, correct with several processes on one database.

An answer is served from here only while the database's generation is the one it was read under; any commit by any
process empties the map of names. Bytes are found by digest and never go stale, but they are reached through names only,
so that deleted content, or another repository's, is not readable through the cache (threat 50).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, Protocol, TypeVar

from lamina.spec.digest import Digest

V = TypeVar("V")
_MAX_NAMES: Final = 20_000


class Generations(Protocol):
    """The part of the metadata that says whether anything changed."""

    def generation(self) -> int | None:
        """Changes with every commit; None when unknown."""


class NameCache(Generic[V]):
    """Answers by key, dropped all together when the database changes. Thread-safe."""

    def __init__(self, source: Generations) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._generation: int | None = None
        self._answers: dict[Hashable, V] = {}

    def generation(self) -> int | None:
        """To be read before the database is asked, and given to `store`."""
        return self._source.generation()

    def lookup(self, key: Hashable) -> V | None:
        """The answer when it is known to be current."""
        now = self._source.generation()
        if now is None:
            return None
        if now != self._generation:
            with self._lock:
                self._generation, self._answers = now, {}
            return None
        return self._answers.get(key)

    def store(self, key: Hashable, answer: V, generation: int | None) -> None:
        """Keep an answer read after `generation` was; ignored when the database has changed since."""
        with self._lock:
            if generation is not None and generation == self._generation and len(self._answers) < _MAX_NAMES:
                self._answers[key] = answer


class BytesCache:
    """Verified bytes by digest, least recently used out first. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[Digest, bytes] = OrderedDict()

    def get(self, digest: Digest) -> bytes | None:
        """The bytes, or None."""
        with self._lock:
            data = self._entries.get(digest)
            if data is not None:
                self._entries.move_to_end(digest)
            return data

    def put(self, digest: Digest, data: bytes) -> None:
        """Keep bytes; entries past the limit are dropped."""
        with self._lock:
            if digest in self._entries or len(data) > self._limit:
                return
            self._entries[digest] = data
            self._size += len(data)
            while self._size > self._limit:
                _, dropped = self._entries.popitem(last=False)
                self._size -= len(dropped)

    def drop(self, digest: Digest) -> None:
        """Forget bytes."""
        with self._lock:
            data = self._entries.pop(digest, None)
            self._size -= len(data) if data is not None else 0
