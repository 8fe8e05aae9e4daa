"""Options of the `local` driver: a volume that is mounted from somewhere while a container uses it (C42, C54).

    lamina volume create -o type=tmpfs -o device=tmpfs -o o=size=100m scratch
    lamina volume create -o type=none -o o=bind -o device=/srv/data data
    lamina volume create -o type=nfs -o o=addr=10.0.0.1,rw -o device=:/export files

The first container that starts mounts it at the volume's own directory, the last one that ends takes it away; who
holds it is noted in files beside it, so that processes that know nothing of each other agree.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from lamina.errors import Conflict, Invalid, Unavailable
from lamina.store import locks

_NEEDS: Final[dict[str, tuple[str, ...]]] = {"type": ("device",), "device": ("type",), "o": ("device", "type")}
_HOLDERS: Final = "_holders"
_DATA: Final = "_data"


class VolumeNotMounted(Unavailable):
    """The kernel refuses to mount what a volume stands for.

    Attributes:
        device: what was to be mounted.
    """

    def __init__(self, device: str, data: str, options: str, reason: str) -> None:
        super().__init__(
            f"error while mounting volume '{data}': failed to mount local volume: mount {device}:{data}"
            + (f", data: {options}" if options else "")
            + f": {reason}"
        )
        self.device = device


def check(name: str, options: Mapping[str, str]) -> None:
    """Checks the options of a volume.

    Raises:
        Invalid: unknown, or one without another that it needs; in Docker's words.
    """
    for option in options:
        if option == "size":
            raise Invalid(f"create {name}: quota size requested but no quota support")
        if option not in _NEEDS:
            raise Invalid(f'create {name}: invalid option: "{option}"')
    for option, needed in _NEEDS.items():
        for other in needed if option in options else ():
            if other not in options:
                raise Invalid(f'create {name}: missing required option: "{other}"')


def acquire(directory: str, options: Mapping[str, str], holder: str) -> None:
    """Has a volume mounted for a container; safe to repeat.

    Args:
        directory: of the volume.
        options: its driver's.
        holder: id of the container.

    Raises:
        VolumeNotMounted: the kernel refuses.
    """
    with locks.directory(directory):
        holders = os.path.join(directory, _HOLDERS)
        os.makedirs(holders, mode=0o700, exist_ok=True)
        if not is_mounted(directory):
            _mount(os.path.join(directory, _DATA), options)
        with open(os.path.join(holders, holder), "w", encoding="ascii"):
            pass


def release(directory: str, holder: str) -> None:
    """Says that a container needs a volume no more, and unmounts it after the last; safe to repeat, and for any volume.

    Args:
        directory: of the volume; one that is gone, or has no driver options, holds nothing.
        holder: id of the container.
    """
    holders = os.path.join(directory, _HOLDERS)
    if not os.path.isdir(holders):
        return
    with locks.directory(directory):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(holders, holder))
        if not os.listdir(holders):
            _unmount(directory)


def abandon(directory: str) -> None:
    """Unmounts a volume that is about to be removed: what it stands for must outlive it.

    Raises:
        Conflict: it cannot be unmounted; nothing may be removed below it then.
    """
    if os.path.isdir(os.path.join(directory, _HOLDERS)):
        _unmount(directory)
        if is_mounted(directory):
            raise Conflict(f"remove {os.path.basename(directory)}: something is still mounted at {directory}/{_DATA}")


def is_mounted(directory: str) -> bool:
    """Whether something is mounted at the place where a volume's content lies."""
    from lamina.linux import mounts

    # A bind may be of the same file system, so that no stat tells it from a plain directory.
    return os.path.join(directory, _DATA) in mounts.mount_points(directory)


def _mount(data: str, options: Mapping[str, str]) -> None:
    from lamina.linux import mounts, syscalls

    device, words = options["device"], options.get("o", "")
    chosen = tuple(word for word in words.split(",") if word)
    try:
        mounts.FileSystem(device, data, options["type"], _addressed(chosen)).execute()
    except syscalls.SyscallFailed as error:
        raise VolumeNotMounted(device, data, words, os.strerror(error.errno or 0).lower()) from None


def _addressed(options: tuple[str, ...]) -> tuple[str, ...]:
    """The options with the host name of `addr=` resolved: the kernel wants an address, mount(8) would look it up."""
    found = []
    for option in options:
        key, equals, host = option.partition("=")
        if key == "addr" and equals:
            import socket

            with suppress(OSError):
                option = f"addr={socket.getaddrinfo(host, None)[0][4][0]}"
        found.append(option)
    return tuple(found)


def _unmount(directory: str) -> None:
    from lamina.linux import mounts

    for point in reversed(mounts.mount_points(directory)):
        mounts.Unmount(point, detach=True).execute()
