"""Which store each bridge on this machine belongs to, so that those of deleted stores can be taken away.

A store that is removed with `rm -r` cannot clean up after itself. Its bridge would keep a range of addresses until the
next reboot, and after thirty such stores no range would be left. So every bridge has a note below /run that names its
store's index; whoever needs a new range first removes the bridges whose index is gone.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Final

from lamina.errors import LaminaError
from lamina.linux.netlink import Netlink
from lamina.runtime.network import nft

NOTES: Final = "/run/lamina-bridges"


def leave(bridge: str, *, database: str, table: str) -> None:
    """Note whose bridge this is."""
    os.makedirs(NOTES, mode=0o700, exist_ok=True)
    temporary = os.path.join(NOTES, f".{bridge}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump({"database": database, "table": table}, file)
    os.replace(temporary, os.path.join(NOTES, bridge))


def forget(bridge: str) -> None:
    """Drop the note of a bridge that was removed; none is success."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(NOTES, bridge))


def sweep(netlink: Netlink) -> list[str]:
    """Remove the bridges and firewall tables of stores that are gone; returns the bridges' names.

    The caller holds the machine's network lock. What cannot be read or removed is left alone.
    """
    gone: list[str] = []
    for bridge in sorted(os.listdir(NOTES)) if os.path.isdir(NOTES) else ():
        if bridge.startswith("."):
            continue
        try:
            with open(os.path.join(NOTES, bridge), encoding="utf-8") as file:
                note = json.load(file)
            database, table = str(note["database"]), str(note["table"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if os.path.lexists(database):
            continue
        with suppress(LaminaError, OSError):
            netlink.delete_link(bridge)
            if nft.table_exists(table):
                nft.delete_table(table)
            forget(bridge)
            gone.append(bridge)
    return gone
