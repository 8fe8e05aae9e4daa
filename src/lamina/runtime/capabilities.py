"""Linux capabilities by name, Docker's default set, and the `--cap-add`/`--cap-drop` rules (threat 37)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lamina.errors import Invalid

# In the order of their numbers (capabilities(7)); index = bit in CapBnd.
ALL: Final = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip

# Docker's set since 1.3 or so; nothing is ever inheritable or ambient.
DEFAULT: Final = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
)  # fmt: skip


class UnknownCapability(Invalid):
    """A capability that Linux does not have.

    Attributes:
        name: in full.
    """

    def __init__(self, name: str, field: str) -> None:
        super().__init__(f'invalid {field}: unknown capability: "{name}"')
        self.name = name


def normalize(name: str, field: str = "CapAdd") -> str:
    """`net_admin`, `NET_ADMIN` and `CAP_NET_ADMIN` all give `CAP_NET_ADMIN`; `ALL` stays.

    Args:
        name: as the user wrote it.
        field: what it is for, `CapAdd` or `CapDrop`.

    Raises:
        UnknownCapability: no such capability.
    """
    upper = name.strip().upper()
    if upper in {"ALL", "CAP_ALL"}:
        return "ALL"
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in ALL:
        raise UnknownCapability(full, field)
    return full


def from_mask(mask: int) -> tuple[str, ...]:
    """The names of a bit mask such as `CapBnd` in proc_pid_status(5)."""
    return tuple(name for bit, name in enumerate(ALL) if mask >> bit & 1)


def effective(
    add: Iterable[str],
    drop: Iterable[str],
    *,
    privileged: bool = False,
    bounding: Iterable[str] = ALL,
    base: Iterable[str] = DEFAULT,
) -> tuple[str, ...]:
    """The capabilities of a container, in the order of their numbers.

    Docker's rules: `--privileged` gives all; `--cap-drop=ALL` leaves what is added; `--cap-add=ALL` gives all but what
    is dropped; otherwise the default set, minus drops, plus adds. What the host itself lacks cannot be given.

    Raises:
        UnknownCapability: no such capability.
    """
    added = {normalize(name) for name in add}
    dropped = {normalize(name, "CapDrop") for name in drop}
    if privileged:
        chosen = set(ALL)
    elif "ALL" in added:
        chosen = set(ALL) - dropped
    elif "ALL" in dropped:
        chosen = added
    else:
        chosen = (set(base) - dropped) | added
    return tuple(name for name in ALL if name in chosen and name in set(bounding))
