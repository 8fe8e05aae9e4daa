"""A registry without HTTP: configuration, metadata, content, and the services over them, put together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from lamina.registry.blobs import Blobs
from lamina.registry.config import RegistryConfig
from lamina.registry.content import Content, make_private, open_directory
from lamina.registry.listing import Listing
from lamina.registry.manifests import Manifests
from lamina.registry.metadata.protocol import Metadata
from lamina.registry.metadata.sql import SqlMetadata
from lamina.registry.uploads import Uploads


class Registry:
    """The services of one registry. Synchronous and thread-safe; several processes may open the same root.

    Attributes:
        blobs, manifests, listing, uploads: the verbs.
    """

    def __init__(
        self,
        config: RegistryConfig,
        metadata: Metadata,
        content: Content,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.metadata, self.content = config, metadata, content
        self.blobs = Blobs(config, metadata, content)
        self.manifests = Manifests(config, metadata, content)
        self.listing = Listing(config, metadata, self.manifests)
        self.uploads = Uploads(config, metadata, content.driver, clock, steady)

    def close(self) -> None:
        """Give the database back."""
        self.metadata.close()


def open_registry(
    root: str,
    config: RegistryConfig | None = None,
    *,
    database: str = "",
    new_database: bool = False,
    clock: Callable[[], float] = time.time,
    steady: Callable[[], float] = time.monotonic,
) -> Registry:
    """Open, or make, a registry in a directory that only its owner can enter (threat 59).

    Args:
        root: holds `registry.db`, a reserve for its log, `blobs/`, `uploads/` and `quarantine/`.
        config: limits and switches.
        database: an SQLAlchemy URL when the metadata is to live elsewhere than in `root`.
        new_database: start with an empty database where blobs tell that there was another.
        clock: seconds since the epoch.
        steady: seconds that nobody can set, from any start.

    Raises:
        NewerSchema: a newer lamina wrote the database.
        LostMetadata: there are blobs and no database that knows their names (F5).
    """
    root = make_private(os.path.abspath(root))
    content = Content(open_directory(root), os.path.join(root, "quarantine"))
    stored = next(iter(content.driver.list()), None) is not None
    metadata = SqlMetadata(
        database or f"sqlite:///{os.path.join(root, 'registry.db')}", beside=root if stored and not new_database else ""
    )
    return Registry(config or RegistryConfig(), metadata, content, clock, steady)
