"""Where the runtime keeps its things: what survives a reboot below the store's root, the rest below the run root."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from lamina.spec.digest import small_sha256
from lamina.values import dataclass

DEFAULT_ROOT: Final = "/var/lib/lamina"


def remove(path: str) -> None:
    """Removes a directory with everything in it, as far as that can be removed; having none is success."""
    from lamina.store.files import Files

    with suppress(OSError):
        Files().remove_tree(path)


@dataclass(frozen=True, slots=True)
class RuntimePaths:
    """The runtime's directories.

    Attributes:
        root: the store's root; containers and volumes are kept there.
        run_root: emptied by a reboot; sockets, pid files, namespaces. At most 40 characters: unix(7) sockets are in it.
        database: the store's index.
    """

    root: str
    run_root: str
    database: str

    @property
    def tag(self) -> str:
        """Tells stores on one machine apart in names that are the machine's: "" for the default root."""
        if os.path.abspath(self.root) == DEFAULT_ROOT:
            return ""
        return small_sha256(os.fsencode(os.path.abspath(self.root))).hex()[:8]

    @property
    def bridge(self) -> str:
        """Name of the default bridge, `lamina0` for the default store (15 characters at most)."""
        return f"lm{self.tag}" if self.tag else "lamina0"

    @property
    def nft_table(self) -> str:
        """Name of the nftables table."""
        return f"lamina_{self.tag}" if self.tag else "lamina"

    @property
    def volumes(self) -> str:
        """Directory of the named volumes."""
        return os.path.join(self.root, "volumes")

    def container(self, container_id: str) -> str:
        """What of a container survives a reboot: log, etc files."""
        return os.path.join(self.root, "containers", container_id)

    def log(self, container_id: str) -> str:
        """The container's log, in conmon's k8s-file form."""
        return os.path.join(self.container(container_id), "ctr.log")

    def run(self, container_id: str) -> str:
        """A container's bundle, sockets and pid files."""
        return os.path.join(self.run_root, "c", container_id)

    def namespace(self, container_id: str) -> str:
        """The container's pinned network namespace."""
        return os.path.join(self.run_root, "netns", container_id)
