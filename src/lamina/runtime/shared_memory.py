"""/dev/shm of containers that share it: a file system of the host's, seen by the lender and by who joins it.

`--ipc shareable` lends, `--ipc container:NAME` joins; the ipc namespace itself has System V memory and queues alone.
"""

from __future__ import annotations

import os

from lamina.errors import Conflict
from lamina.linux import mounts
from lamina.runtime.bundle import OciMount
from lamina.runtime.config import ContainerOptions
from lamina.runtime.paths import RuntimePaths
from lamina.runtime.state import ContainerRecord


class NotShareable(Conflict):
    """The container whose ipc namespace is to be joined keeps it to itself.

    Attributes:
        container_id: its id.
    """

    def __init__(self, container_id: str) -> None:
        super().__init__(
            f"can't join IPC of container {container_id}: non-shareable IPC (hint: use IpcMode:shareable for the donor"
            " container)"
        )
        self.container_id = container_id


def lend(directory: str, size: int) -> OciMount:
    """Makes what a container lends.

    Args:
        directory: its bundle.
        size: bytes at most.

    Raises:
        SyscallFailed: the kernel said no.
    """
    path = _place(directory)
    os.mkdir(path)
    mounts.Tmpfs(path, size).execute()
    return _bound(path)


def join(lender: ContainerRecord, paths: RuntimePaths) -> OciMount:
    """What a running container lends.

    Raises:
        NotShareable: nothing.
    """
    mode = ContainerOptions.from_json(lender.options).ipc
    if mode == "host":
        return _bound("/dev/shm")
    if mode != "shareable":
        raise NotShareable(lender.id)
    return _bound(_place(paths.run(lender.id)))


def take_back(directory: str) -> None:
    """Undoes `lend`, as far as there is anything to undo; who joined keeps what it has.

    Raises:
        SyscallFailed: the kernel said no.
    """
    path = _place(directory)
    if os.path.isdir(path):
        mounts.Unmount(path, detach=True).execute()


def _place(directory: str) -> str:
    return os.path.join(directory, "shm")


def _bound(path: str) -> OciMount:
    return OciMount("/dev/shm", path, "bind", ("rbind", "nosuid", "noexec", "nodev", "rprivate"))
