"""Choose the storage driver: overlayfs where it works, plain copies elsewhere (S04)."""

from __future__ import annotations

from lamina.store.files import Files
from lamina.store.snapshots.driver import TreeDriver


def probed(wanted: str | None, directory: str, files: Files) -> tuple[str, str | None]:
    """Finds the driver for a new store.

    Args:
        wanted: `overlay` or `vfs`, or None for the best that works.
        directory: where the snapshots will be.
        files: the file layer.

    Returns:
        The name to record (`overlay`, `overlay+userxattr`, `vfs`), and why it does not work or None when it does.
    """
    if wanted == "vfs":
        return "vfs", None
    from lamina.store.snapshots.overlay import probe

    first = probe(directory, files, userxattr=False)
    if first is None:
        return "overlay", None
    if probe(directory, files, userxattr=True) is None:
        return "overlay+userxattr", None
    return ("overlay", first) if wanted == "overlay" else ("vfs", None)


def make(recorded: str, files: Files) -> TreeDriver:
    """The driver that `probed` named."""
    if recorded == "vfs":
        from lamina.store.snapshots.vfs import VfsDriver

        return VfsDriver(files)
    from lamina.store.snapshots.overlay import OverlayDriver

    return OverlayDriver(files, userxattr=recorded.endswith("+userxattr"))


def boot_id() -> str:
    """What tells this boot of the machine from others (proc_sys_kernel(5)); "" where it cannot be read."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
