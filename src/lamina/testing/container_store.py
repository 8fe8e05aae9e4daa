"""A store for containers alone: an index, directories, and root file systems made from one directory."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lamina.linux import mounts
from lamina.runtime import attach, execs, ids, rootfs_mount
from lamina.runtime.config import ContainerOptions
from lamina.runtime.paths import RuntimePaths
from lamina.runtime.state import ContainerRecord
from lamina.runtime.supervisor import Supervisor
from lamina.spec.config import RunConfig
from lamina.spec.timestamp import rfc3339, utc_now
from lamina.store.db import Database
from lamina.values import dataclass


@dataclass(frozen=True, slots=True)
class Finished:
    """How a container in the foreground ended."""

    id: str
    code: int
    out: str
    err: str


class ContainerStore:
    """Containers over one read-only directory; everything it makes is gone after `close`.

    Attributes:
        paths: its directories.
        database: its index.
        supervisor: of its containers.
        warnings: what the supervisor warned of.
    """

    def __init__(self, layer: Path, base: Path, run_root: Path) -> None:
        self._layer = layer
        self._base = base
        self.paths = RuntimePaths(str(base), str(run_root), str(base / "index.db"))
        self.database = Database(self.paths.database)
        self.warnings: list[str] = []
        self.supervisor = Supervisor(self.paths, self.database, warn=self.warnings.append)

    def create(
        self,
        *argv: str,
        name: str = "",
        image: RunConfig | None = None,
        options: ContainerOptions | None = None,
        **more: Any,
    ) -> str:
        """Creates a container; returns its id. `more` are options by name."""
        container_id = ids.container_id()
        base = self._base / "snapshots" / container_id
        for part in ("upper", "work", "merged"):
            (base / part).mkdir(parents=True)
        chosen = options or ContainerOptions(command=argv or None, **more)
        record = ContainerRecord(
            container_id,
            name or f"test-{container_id[:8]}",
            rfc3339(utc_now()),
            options=chosen.to_json(),
            image_config=(image or RunConfig()).to_json(),
            rootfs=rootfs_mount.overlay_doc(
                [str(self._layer)], str(base / "upper"), str(base / "work"), str(base / "merged")
            ),
        )
        return self.supervisor.create(record).id

    def run(self, *argv: str, stdin: bytes = b"", **more: Any) -> Finished:
        """Runs a container in the foreground to its end."""
        options = {"stdin_open": bool(stdin), "stdin_once": bool(stdin)} | more
        container_id = self.create(*argv, **options)
        return self.attach(container_id, stdin=stdin)

    def attach(self, container_id: str, *, stdin: bytes = b"") -> Finished:
        """Starts a container in the foreground and waits for its end."""
        _record, connection = self.supervisor.start(container_id, attach=True)
        assert connection is not None
        out, err = _streams(connection, stdin)
        code = self.supervisor.wait(container_id)
        assert code is not None
        return Finished(container_id, code, out, err)

    def execute(self, container_id: str, *argv: str, stdin: bytes = b"", **more: Any) -> Finished:
        """Runs a process in a running container to its end. `more` are ExecOptions by name."""
        runner = execs.Execs(self.supervisor)
        started = runner.start(container_id, execs.ExecOptions(argv, **({"stdin_open": bool(stdin)} | more)))
        assert started.connection is not None
        out, err = _streams(started.connection, stdin)
        return Finished(started.id, runner.wait(started), out, err)

    def close(self) -> list[str]:
        """Removes all containers and networks; returns what could not be accounted for."""
        for record in self.supervisor.all():
            self.supervisor.remove(record.id, force=True, volumes=True)
        self.supervisor.networks.remove_bridges()
        self.database.close()
        left = mounts.mount_points(self.paths.root) + mounts.mount_points(self.paths.run_root)
        left += [
            str(path)
            for path in Path(self.paths.run_root).glob("*/*")
            if path.parent.name in {"c", "netns", "runc", "crun"}
        ]
        return left


def _streams(connection: socket.socket, stdin: bytes) -> tuple[str, str]:
    """Feeds the input and collects both outputs until the other side ends."""
    with (
        connection,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.TemporaryFile() as source,
    ):
        source.write(stdin)
        source.seek(0)
        fd = source.fileno() if stdin else None
        ended = attach.pump(connection, stdin=fd, stdout=out.fileno(), stderr=err.fileno())
        assert ended == "ended"
        out.seek(0)
        err.seek(0)
        return out.read().decode(), err.read().decode()


def host_rules(table: str) -> str:
    """What nftables has in a table, or "" when there is no such table."""
    done = subprocess.run(["/usr/sbin/nft", "list", "table", "ip", table], capture_output=True, text=True, check=False)
    return done.stdout


def interfaces(prefixes: Sequence[str]) -> list[str]:
    """Names of the host's interfaces that start like that."""
    return [name for name in os.listdir("/sys/class/net") if name.startswith(tuple(prefixes))]
