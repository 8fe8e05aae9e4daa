"""Takes a store off the machine before its directory is deleted: containers, mounts, bridges, firewall, run files.

python -m lamina.testing.takedown ROOT...
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable

from lamina.engine.engine import Engine
from lamina.engine.settings import Settings


def take_down(root: str) -> None:
    """Ends the store's containers and removes what lies outside `root`; the files below it stay.

    Safe for a directory that no store was ever in, and when called twice.
    """
    root = os.path.abspath(root)
    if os.path.isdir(root):
        found = _lamina(root, "ps", "-aq").split()
        if found:
            _lamina(root, "rm", "-f", *found)
        settings = Settings.at(root, config_dir="", env={})
        engine = Engine(settings)
        try:
            if os.geteuid() == 0:
                engine.bridges.remove_bridges()
        finally:
            engine.close()
        shutil.rmtree(settings.run_root, ignore_errors=True)
    for point in _mounts_below(root):
        subprocess.run(["umount", "-l", point], check=False)


def _lamina(root: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "lamina", "--root", root, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _mounts_below(folder: str) -> Iterable[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = [line.split()[4] for line in file]
    return sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        take_down(name)
