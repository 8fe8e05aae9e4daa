"""An image of busybox-static put into a store, and the program run on it: what tests of containers start from."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from lamina.engine.engine import Engine
from lamina.engine.imports import ImportOptions
from lamina.engine.settings import Settings
from lamina.spec.reference import Reference

BUSYBOX = "/bin/busybox"
IMAGE = "busybox"
CHANGES = ('CMD ["sh"]', "ENV FROM_IMAGE=yes", "LABEL made=here", "EXPOSE 80")


def root_file_system() -> bytes:
    """A tar with busybox, its applets, users, and `/data/seed` that belongs to user 33."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("data", 0o755), ("tmp", 0o1777)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, mode
            archive.addfile(info)
        _file(archive, "bin/busybox", Path(BUSYBOX).read_bytes(), mode=0o755)
        listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout
        for applet in listed.split():
            if applet != "busybox":
                info = tarfile.TarInfo(f"bin/{applet}")
                info.type, info.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(info)
        _file(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/tmp:/bin/sh\n")
        _file(archive, "etc/group", b"root:x:0:\nweb:x:33:\n")
        _file(archive, "data/seed", b"from the image\n", owner=33)
    return out.getvalue()


def _file(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644, owner: int = 0) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uid, info.gid = len(content), mode, owner, owner
    archive.addfile(info, io.BytesIO(content))


def put_image(engine: Engine, name: str = IMAGE, changes: Sequence[str] = CHANGES) -> str:
    """Imports it under a name; returns the image's id."""
    options = ImportOptions(reference=Reference.parse(name), changes=changes)
    return str(engine.archives.import_tar(io.BytesIO(root_file_system()), options))


class Program:
    """The command line on a store of its own, each call a process of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.argv = [sys.executable, "-m", "lamina", "--root", str(root), "--config", str(root / "config")]

    @property
    def env(self) -> dict[str, str]:
        """A quiet environment."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.root), "TERM": "xterm", "TZ": "UTC"}

    def __call__(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """Runs a command line to its end."""
        done = subprocess.run(
            [*self.argv, *arguments], input=stdin, capture_output=True, env=self.env, cwd=self.root, check=False
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def out(self, *arguments: str, stdin: bytes = b"") -> str:
        """Runs a command line that must succeed; its output without the last line end."""
        done = self(*arguments, stdin=stdin)
        if done.returncode:
            raise AssertionError(f"{arguments} ended with {done.returncode}: {done.stderr}")
        return done.stdout.removesuffix("\n")

    def remove_all(self) -> None:
        """Removes every container with its volumes, and the bridges."""
        with self.engine() as engine:
            supervisor = engine.containers.supervisor
            for record in supervisor.all():
                supervisor.remove(record.id, force=True, volumes=True)
            supervisor.networks.remove_bridges()

    def engine(self) -> Engine:
        """The engine over the same store; the caller closes it."""
        return Engine(Settings.at(str(self.root)))
