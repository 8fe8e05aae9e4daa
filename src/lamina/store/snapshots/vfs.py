"""Trees as whole copies: works on every file system, without mounts and without privileges.

Files are cloned where the file system can (reflink), else copied by the kernel; hard links, holes, attributes, devices
and times survive.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from lamina.layer.owners import recorded
from lamina.linux.mounts import Bind, Mount
from lamina.store.files import Files, raise_typed
from lamina.store.snapshots.copytree import copy_tree
from lamina.store.snapshots.driver import Usage
from lamina.store.snapshots.walk import usage_of


class VfsDriver:
    """The tree driver of plain copies."""

    name = "vfs"
    stacked = False
    userxattr = False

    def __init__(self, files: Files) -> None:
        self._files = files

    def create(self, directory: str, parents: Sequence[str]) -> None:
        """Copies the parent.

        Raises:
            StoreFull, StoreIOFailed: the disk refuses.
        """
        tree = self.tree(directory)
        try:
            self._files.mkdir(tree, 0o755)
            if parents:
                self._files.step("vfs.copy")
                copy_tree(self.tree(parents[0]), tree)
                owners = recorded(self.tree(parents[0]))
                if owners is not None:
                    owners.save(tree)
        except OSError as error:
            raise_typed(directory, error)

    def seal(self, directory: str) -> None:
        """Nothing to remove."""

    def tree(self, directory: str) -> str:
        """The whole tree."""
        return f"{directory}/fs"

    def mounts(
        self, directory: str | None, parents: Sequence[str], target: str, *, writable: bool, volatile: bool
    ) -> tuple[Mount, ...]:
        """A bind mount."""
        del volatile
        tree = self.tree(directory or parents[0])
        return (Bind(tree, target, recursive=False, readonly=not (writable and directory is not None)),)

    def plain(self, directory: str | None, parents: Sequence[str]) -> str | None:
        """Always there."""
        return self.tree(directory or parents[0])

    def usage(self, directory: str, parents: Sequence[str]) -> Usage:
        """`disk` of the whole copy, `size` of what differs from the parent."""
        if not parents:
            return usage_of(self.tree(directory))
        below = self.tree(parents[0])
        old, new = recorded(below), recorded(self.tree(directory))

        def changed(path: str, info: os.stat_result) -> bool:
            try:
                before = os.lstat(f"{below}/{path}")
            except (FileNotFoundError, NotADirectoryError):
                return True
            if old is not None and new is not None and old.record(path) != new.record(path):
                return True
            return not stat.S_ISREG(before.st_mode) or (
                (before.st_size, before.st_mtime_ns, before.st_mode, before.st_uid, before.st_gid)
                != (info.st_size, info.st_mtime_ns, info.st_mode, info.st_uid, info.st_gid)
            )

        return usage_of(self.tree(directory), changed)
