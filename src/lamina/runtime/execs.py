"""Further processes in a running container (`docker exec`, C19), each watched by a conmon of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lamina.linux import inotify
from lamina.runtime import config, conmon, oci, preparation, process, rootfs, rootfs_mount, users
from lamina.runtime import host as host_module
from lamina.runtime.bundle import ContainerSpec, process_spec
from lamina.runtime.config import ContainerOptions
from lamina.runtime.state import WrongState
from lamina.runtime.supervisor import Supervisor
from lamina.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class ExecOptions:
    """What to run, and how.

    Attributes:
        argv: the command.
        env: `NAME=value`, over the container's.
        user: "" = the container's.
        workdir: "" = the container's.
        tty: a terminal of its own.
        stdin_open: `-i`.
        privileged: all capabilities.
        console_size: rows and columns its terminal starts with.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    tty: bool = False
    stdin_open: bool = False
    privileged: bool = False
    console_size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Exec:
    """A process started in a container.

    Attributes:
        id: 64 hex digits.
        container_id: where.
        pid: on the host.
        directory: of its conmon.
        conmon: stamp of its conmon.
        connection: its streams when asked for (`lamina.runtime.attach.pump`).
    """

    id: str
    container_id: str
    pid: int
    directory: str
    conmon: str
    connection: socket.socket | None = None


class Execs:
    """Starts processes in the running containers of a supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def start(self, name: str, options: ExecOptions, *, attach: bool = True) -> Exec:
        """Starts a process in a running container.

        Args:
            name: of the container, or its id.
            options: what to run.
            attach: connect to its streams before it starts.

        Raises:
            WrongState: the container does not run, or is paused.
            CommandNotFound, CommandNotExecutable, StartRefused: exit codes 127, 126, 126.
            NoSuchUser, UnsafePath: in the container.
        """
        record = self._supervisor.find(name)
        if record.state.status == "paused":
            message = f"Container {record.id} is paused, unpause the container before exec"
            raise WrongState(message, record.id, "paused")
        if not record.state.running:
            raise WrongState(f"container {record.id} is not running", record.id, record.state.status)
        host = host_module.probe()
        container = ContainerOptions.from_json(record.options)
        image = preparation.image_config_of(record)
        root = rootfs_mount.path_of(record.rootfs)
        user = users.resolve(root, options.user or container.user or image.user, container.group_add)
        workdir = options.workdir or config.workdir_of(image, container)
        if workdir == "/proc" or workdir.startswith("/proc/"):
            raise rootfs.UnsafePath(f"the working directory '{workdir}' is inside /proc", workdir)
        merged = replace(container, env=container.env + options.env, tty=options.tty)
        spec = ContainerSpec(
            id=record.id,
            rootfs=root,
            argv=options.argv,
            env=config.environment(image, merged, hostname=config.hostname_of(record.id, container), home=user.home),
            cwd=workdir,
            user=user,
            tty=options.tty,
            console_size=options.console_size,
            cap_add=container.cap_add,
            cap_drop=container.cap_drop,
            privileged=options.privileged or container.privileged,
            no_new_privileges=any(option.startswith("no-new-privileges") for option in container.security_opt),
        )
        return self._launch(record.id, container, process_spec(spec, host, lambda _message: None), options, attach)

    def _launch(
        self,
        container_id: str,
        container: ContainerOptions,
        spec: Mapping[str, Any],
        options: ExecOptions,
        attach: bool,
    ) -> Exec:
        paths = self._supervisor.paths
        cgroups = host_module.cgroup_mode()
        runtime = oci.holding(paths.run_root, container_id, container.runtime, cgroups=cgroups)
        if runtime is None:
            raise WrongState(f"container {container_id} is not running", container_id, "exited")
        exec_id = secrets.token_hex(32)
        directory = os.path.join(paths.run(container_id), f"e{exec_id[:16]}")
        os.mkdir(directory, 0o700)
        try:
            path = os.path.join(directory, "process.json")
            with open(path, "w", encoding="utf-8") as file:
                file.write(json.dumps(spec))
            launch = conmon.Launch(
                runtime,
                container_id,
                directory,
                "",
                tty=options.tty,
                stdin=options.stdin_open,
                stdin_once=True,
                exec_spec=path,
            )
            with conmon.Starting(launch, attach=attach) as starting:
                pid, connection = starting.go()
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        watcher = process.stamp(conmon.read_pid(conmon.conmon_pid_file(directory)))
        return Exec(exec_id, container_id, pid, directory, watcher, connection)

    def wait(self, started: Exec) -> int:
        """Waits for the process to end; returns its exit code. Its directory is gone then."""
        with inotify.Watch() as watch:
            with suppress(OSError):
                watch.add(started.directory, inotify.MOVED_TO | inotify.CREATE | inotify.DELETE_SELF)
            while True:
                ended = not process.alive(started.conmon) or not os.path.isdir(started.directory)
                code = conmon.exit_code(started.directory)
                if code is not None or ended:
                    break
                watch.wait(0.25)  # the end of conmon itself makes no event here
        if started.connection is not None:
            started.connection.close()
        shutil.rmtree(started.directory, ignore_errors=True)
        return 137 if code is None else code

    def resize(self, started: Exec, rows: int, columns: int) -> None:
        """Sets the size of the process's terminal."""
        conmon.resize(started.directory, rows, columns)
