"""What a process must be allowed to do before it can run containers at all."""

from __future__ import annotations

import os

from lamina.errors import Denied


class NoPrivilege(Denied):
    """This user cannot make the namespaces, mounts and networks that a container is made of (S31)."""

    hint = "use sudo"

    def __init__(self) -> None:
        super().__init__(
            "running containers needs root or subordinate ids;"
            " images can be built without RUN, pulled, pushed, saved and loaded by anyone"
        )


def held() -> bool:
    """Whether this process may make networks and containers."""
    return os.geteuid() == 0


def require() -> None:
    """Refuses before anything is touched, so that nothing half-made has to be taken back.

    Raises:
        NoPrivilege: this is neither root nor a user namespace's root.
    """
    if not held():
        raise NoPrivilege
