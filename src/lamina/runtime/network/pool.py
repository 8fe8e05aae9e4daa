"""Bridged networks for build steps: made once, used by one step after the other."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lamina.runtime import process
from lamina.runtime.executor import Attachment
from lamina.runtime.network.bridge import DEFAULT_NETWORK, Endpoint, Networks
from lamina.store.db import Database


class NetworkPool:
    """Leases network namespaces on the default bridge; a returned one waits for the next lease.

    The steps of one build trust each other as far as the network goes; use one pool for each build and close it.
    """

    def __init__(self, networks: Networks, database: Database) -> None:
        self._networks = networks
        self._database = database
        self._lock = threading.Lock()
        self._idle: list[tuple[str, Endpoint]] = []
        self._swept = False
        self._closed = False

    @contextmanager
    def lease(self) -> Iterator[Attachment]:
        """A namespace for the time of the context; made anew only when all others are in use."""
        with self._lock:
            first, self._swept = not self._swept, True
            known = self._idle.pop() if self._idle else None
        if first:
            self.sweep()
        if known is None:
            name = f"build-{secrets.token_hex(8)}"
            network = self._networks.get(DEFAULT_NETWORK)
            endpoint, _ = self._networks.connect(name, network, owner=process.stamp())
            known = (name, endpoint)
        try:
            yield Attachment(known[1].namespace, str(known[1].address.ip))
        finally:
            with self._lock:
                keep = not self._closed
                if keep:
                    self._idle.append(known)
            if not keep:
                self._networks.disconnect(*known)

    def close(self) -> None:
        """Removes the idle namespaces, and each leased one when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for name, endpoint in idle:
            self._networks.disconnect(name, endpoint)

    def sweep(self) -> int:
        """Removes what pools of dead processes left; returns how many."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT container_id, doc FROM endpoints").fetchall()
        dead = [name for name, doc in rows if (owner := json.loads(doc).get("owner")) and not process.alive(owner)]
        for name in dead:
            self._networks.disconnect(name, wait=True)
        return len(dead)
