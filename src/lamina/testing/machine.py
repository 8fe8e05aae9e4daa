"""What the machine at hand offers to tests: a Debian base, package mirrors that answer, a busybox, a free port."""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
_LOWEST_PORT = 10_000
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on.

    It is below those that the kernel gives out (ip(7), ip_local_port_range), so that no connection takes it before use.
    """
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        given_out = int(file.read().split()[0])
    while True:
        port = random.randrange(_LOWEST_PORT, given_out) if given_out > _LOWEST_PORT else 0
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            return int(listener.getsockname()[1])


def debian_base() -> Path | str:
    """A Debian root file system as a tar, made from this machine's package sources; text: why there is none."""
    if os.geteuid() != 0:
        return "needs root"
    if not shutil.which("mmdebstrap"):
        return "needs mmdebstrap"
    made = subprocess.run(["scripts/base-image"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"no Debian base can be made here: {_last_line(made.stderr)}"
    return PROJECT / made.stdout.strip()


def mirrors_answer() -> str:
    """Why nothing can be fetched from this machine's package mirrors, or "" when all of them answer.

    Asked from the machine itself, so that a container that does not reach them is a failure and no reason to skip.
    """
    if not shutil.which("apt-get"):
        return "no apt-get here"
    with tempfile.TemporaryDirectory() as lists:
        os.mkdir(os.path.join(lists, "partial"))
        options = ("APT::Update::Error-Mode=any", "Acquire::Retries=0", "Acquire::http::Timeout=10")
        places = (f"Dir::State::Lists={lists}", f"Dir::Cache={lists}", "APT::Sandbox::User=root")
        asked = subprocess.run(
            ["apt-get", "update", "-q", *(f"-o{option}" for option in (*options, *places))],
            capture_output=True,
            text=True,
            check=False,
        )
    return "" if asked.returncode == 0 else f"no package mirror answers here: {_last_line(asked.stderr)}"


def busybox_base(file: Path) -> bool:
    """Writes a root file system of nothing but a static busybox and its names; False where there is no busybox."""
    program = next((path for path in BUSYBOX if os.path.exists(path)), None)
    if program is None:
        return False
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    texts = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/issue": "busybox\n"}
    with tarfile.open(file, "w") as tar:
        for name in ("bin", "etc", "root", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        tar.add(os.path.realpath(program), "bin/busybox")
        for applet in set(applets) - {"busybox"}:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name, text in texts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return True


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
