"""Trees by overlayfs: each snapshot keeps only its changes, the kernel shows them stacked.

Committing is a change of the index: the upper directory becomes a lower one where it lies. A process that may not set
`trusted.*` attributes (a user namespace) uses `user.*` ones and mounts with `userxattr` (Linux 5.11).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from lamina.linux.mounts import Bind, Mount, Overlay, Unmount
from lamina.store.files import Files, raise_typed
from lamina.store.ids import fresh
from lamina.store.paths import PROBE
from lamina.store.snapshots.attributes import copy_attributes
from lamina.store.snapshots.driver import Usage
from lamina.store.snapshots.walk import usage_of


class OverlayDriver:
    """The tree driver of overlayfs."""

    name = "overlay"
    stacked = True

    def __init__(self, files: Files, *, userxattr: bool = False) -> None:
        self._files, self.userxattr = files, userxattr
        # Renamed directories and metadata-only copies would make a layer refer to the layers below it by path.
        self._options = ("userxattr",) if userxattr else ("index=off", "metacopy=off", "redirect_dir=off")

    def create(self, directory: str, parents: Sequence[str]) -> None:
        """Makes `fs` and `work`; the root of the tree looks like the parent's.

        Raises:
            StoreFull, StoreIOFailed: the disk refuses.
        """
        tree = self.tree(directory)
        try:
            self._files.mkdir(tree, 0o755)
            self._files.mkdir(f"{directory}/work", 0o700)
            if parents:
                copy_attributes(self.tree(parents[0]), tree)
        except OSError as error:
            raise_typed(directory, error)

    def seal(self, directory: str) -> None:
        """Removes the scratch directory."""
        try:
            self._files.remove_tree(f"{directory}/work")
        except OSError as error:
            raise_typed(directory, error)

    def tree(self, directory: str) -> str:
        """The changes: overlay's upper, later a lower."""
        return f"{directory}/fs"

    def mounts(
        self, directory: str | None, parents: Sequence[str], target: str, *, writable: bool, volatile: bool
    ) -> tuple[Mount, ...]:
        """An overlay, or a bind mount where there is only one directory."""
        own = [] if directory is None else [self.tree(directory)]
        lower = [self.tree(parent) for parent in parents]
        if writable and directory is not None:
            if not lower:
                return (Bind(own[0], target, recursive=False),)
            # Left by a volatile mount; the kernel refuses the directory while it is there.
            mark = f"{directory}/work/work/incompat"
            if os.path.lexists(mark):
                try:
                    self._files.remove_tree(mark)
                except OSError as error:
                    raise_typed(mark, error)
            options = (*self._options, "volatile") if volatile else self._options
            return (Overlay(tuple(lower), target, own[0], f"{directory}/work", options),)
        stack = own + lower
        if len(stack) == 1:
            return (Bind(stack[0], target, recursive=False, readonly=True),)
        return (Overlay(tuple(stack), target, options=self._options, readonly=True),)

    def plain(self, directory: str | None, parents: Sequence[str]) -> str | None:
        """The only directory of a tree without parents. Whiteouts mean nothing at the bottom, so it must have none."""
        stack = ([] if directory is None else [directory]) + list(parents)
        return self.tree(stack[0]) if len(stack) == 1 else None

    def usage(self, directory: str, parents: Sequence[str]) -> Usage:
        """Of the changes alone."""
        del parents
        return usage_of(self.tree(directory))


def probe(directory: str, files: Files, *, userxattr: bool) -> str | None:
    """Tries overlayfs out below a directory: mount, whiteout, opaque directory.

    Returns:
        None when all of it works, else what does not, in words. Overlay on overlay ends here, and so does a process
        that may not mount.
    """
    base = f"{directory}/{PROBE}{fresh()[:12]}"
    target = f"{base}/merged"
    try:
        os.makedirs(base, 0o700)
        for name in ("lower", "lower/kept", "lower/gone", "upper", "work", "merged"):
            os.mkdir(f"{base}/{name}")
        with open(f"{base}/lower/gone/old", "wb"):
            pass
        options = ("userxattr",) if userxattr else ()
        Overlay((f"{base}/lower",), target, f"{base}/upper", f"{base}/work", options).execute()
        try:
            os.unlink(f"{target}/gone/old")
            os.rmdir(f"{target}/gone")
            os.mkdir(f"{target}/gone")
            os.rename(f"{target}/gone", f"{target}/moved")
            name = "user.overlay.opaque" if userxattr else "trusted.overlay.opaque"
            os.setxattr(f"{base}/upper/moved", name, b"y")
            found = sorted(os.listdir(target))
        finally:
            Unmount(target, detach=True).execute()
        return None if found == ["kept", "moved"] else f"the merged tree shows {found}"
    except OSError as error:
        return str(error.strerror or error)
    finally:
        with suppress(OSError):
            files.remove_tree(base)
