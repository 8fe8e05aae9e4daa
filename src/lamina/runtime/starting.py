"""The start of a run: a container's network, mounts, bundle and conmon, and the note that it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lamina.errors import LaminaError
from lamina.runtime import (
    config,
    conmon,
    finishing,
    oci,
    preparation,
    process,
    recovery,
    rootfs,
    rootfs_mount,
    seccomp_cache,
)
from lamina.runtime import host as host_module
from lamina.runtime.bundle import DEFAULT_SHM, ContainerSpec, OciMount, mount_targets, oci_spec
from lamina.runtime.config import ContainerOptions
from lamina.runtime.host import HostFacts
from lamina.runtime.mount_spec import parse_size
from lamina.runtime.network.ports import PortAllocated, PortMapping, PortRefused, parse_exposed
from lamina.runtime.paths import RuntimePaths, remove
from lamina.runtime.state import ContainerRecord, Containers, ContainerState, NoSuchContainer
from lamina.runtime.volumes import Volumes
from lamina.spec.timestamp import rfc3339
from lamina.values import replace

if TYPE_CHECKING:
    import socket
    from datetime import datetime

    from lamina.runtime.network.bridge import Endpoint, Networks


class Starter:
    """Starts containers of one store.

    Args:
        paths: the runtime's directories.
        containers: the index of containers.
        networks: to join; asked for when a container joins one.
        volumes: to mount.
        host: the machine's facts.
        pid_of: the pid of a running container by name or id.
        clock: the time.
        warn: told, in one line each, what the machine does not allow.
        python: interpreter that runs the exit command.
    """

    def __init__(
        self,
        paths: RuntimePaths,
        containers: Containers,
        networks: Callable[[], Networks],
        volumes: Volumes,
        *,
        host: Callable[[], HostFacts],
        pid_of: Callable[[str], int],
        clock: Callable[[], datetime],
        warn: Callable[[str], None],
        python: str,
    ) -> None:
        self._paths, self._containers, self._networks, self._volumes = paths, containers, networks, volumes
        self._host, self._pid_of, self._clock, self._warn, self._python = host, pid_of, clock, warn, python

    def start(
        self, record: ContainerRecord, *, attach: bool, size: tuple[int, int] | None, restarting: bool
    ) -> tuple[ContainerRecord, socket.socket | None]:
        """Starts a container that does not run; its lock is held. What fails halfway is the caller's to tear down.

        Args:
            record: of the container.
            attach: connect to its streams before it starts.
            size: rows and columns of its terminal at first.
            restarting: by its restart policy, not by the user.

        Returns:
            The record, running, and the attach socket when asked for.

        Raises:
            CommandNotFound, CommandNotExecutable, StartRefused, PortAllocated, ...: as `Supervisor.start`.
        """
        options = ContainerOptions.from_json(record.options)
        host = self._host()
        shared = any(doc.get("propagation") in {"shared", "rshared"} for doc in record.mounts)
        runtime = oci.choose(self._paths.run_root, options.runtime, cgroups=host.cgroups, needs=oci.Needs(shared))
        directory = self._paths.run(record.id)
        remove(directory)
        os.makedirs(directory, mode=0o700)
        endpoint, namespace, held = self._join_network(record, options)
        try:
            root = rootfs_mount.mount(record.rootfs)
            mounts = preparation.oci_mounts(record, root, self._volumes)
            if not any(mount.destination == "/dev/shm" for mount in mounts):
                mounts += self._shared_memory(options, directory)
            launch = conmon.Launch(
                runtime,
                record.id,
                directory,
                "" if options.log_driver == "none" else self._paths.log(record.id),
                tty=options.tty,
                stdin=options.stdin_open,
                stdin_once=options.stdin_once,
                exit_command=recovery.exit_command(self._python, self._paths, record.id),
                # Whoever is attached tidies up itself, faster than a new interpreter could.
                exit_delay=1 if attach and options.restart.name == "no" else 0,
                log_size=log_size(options),
            )
            # Conmon, and what stands before the runtime, come up while the bundle is written.
            with conmon.Starting(launch, attach=attach, hold=[holder.fileno() for holder in held]) as starting:
                etc = self._etc_mounts(record, options, endpoint)
                spec = preparation.container_spec(record, root, namespace, [*etc, *mounts], self._pid_of)
                bundle = self._write_bundle(replace(spec, console_size=size if options.tty else None), runtime, options)
                pid, connection = starting.go()
            seccomp_cache.remember(self._paths.run_root, runtime, record.id, bundle)
        finally:
            for holder in held:
                holder.close()
        watcher = conmon.read_pid(conmon.conmon_pid_file(directory))
        return self._note_start(record, pid, watcher, endpoint, restarting=restarting), connection

    def _etc_mounts(
        self, record: ContainerRecord, options: ContainerOptions, endpoint: Endpoint | None
    ) -> list[OciMount]:
        partner = ""
        if options.network.startswith("container:"):
            partner = self._paths.container(self._containers.find(options.network.partition(":")[2]).id)
        return preparation.etc_mounts(record, options, self._paths.container(record.id), endpoint, shared=partner)

    def _shared_memory(self, options: ContainerOptions, directory: str) -> list[OciMount]:
        kind, _, name = options.ipc.partition(":")
        if kind not in {"shareable", "container"}:
            return []
        from lamina.runtime import shared_memory

        if kind == "shareable":
            return [shared_memory.lend(directory, options.shm_size or DEFAULT_SHM)]
        return [shared_memory.join(self._containers.find(name), self._paths)]

    def _write_bundle(self, spec: ContainerSpec, runtime: oci.Runtime, options: ContainerOptions) -> dict[str, Any]:
        host, directory = self._host(), self._paths.run(spec.id)
        missing = rootfs.missing_stubs(spec.rootfs, mount_targets(spec, host))
        rootfs.note_stubs(finishing.stubs_file(directory), missing)
        devices = host_module.devices() if options.privileged else []
        bundle = oci_spec(spec, host, host_devices=devices, warn=self._warn)
        with open(os.path.join(directory, "config.json"), "w", encoding="utf-8") as file:
            # In one piece: only that is C's work in the json module, and this is some hundred names of system calls.
            file.write(json.dumps(seccomp_cache.applied(self._paths.run_root, runtime, bundle)))
        return bundle

    def _note_start(
        self, record: ContainerRecord, pid: int, watcher: int, endpoint: Endpoint | None, *, restarting: bool
    ) -> ContainerRecord:
        now = rfc3339(self._clock())

        def change(state: ContainerState) -> ContainerState:
            return replace(
                state,
                status="running",
                pid=pid,
                process=process.stamp(pid),
                conmon=process.stamp(watcher),
                exit_code=0,
                error="",
                oom_killed=False,
                started_at=now,
                restart_count=state.restart_count + 1 if restarting else 0,
                stopped_by_user=False,
                endpoint=endpoint.to_json() if endpoint else None,
            )

        return self._containers.update(record.id, change, durable=not record.throwaway)

    def note_failure(self, container_id: str, error: BaseException) -> None:
        """Writes down why a container did not start."""
        code = error.exit_code if isinstance(error, oci.RuntimeCallFailed) else 128
        message = error.message if isinstance(error, LaminaError) else str(error)

        def change(state: ContainerState) -> ContainerState:
            status = "exited" if state.status == "restarting" else state.status
            return replace(state, status=status, exit_code=code, error=message)

        with suppress(NoSuchContainer):
            self._containers.update(container_id, change)

    def _join_network(
        self, record: ContainerRecord, options: ContainerOptions
    ) -> tuple[Endpoint | None, str, list[socket.socket]]:
        mode = options.network or "bridge"
        if mode in {"host", "none"}:
            return None, mode, []
        if mode.startswith("container:"):
            return None, f"/proc/{self._pid_of(mode.partition(':')[2])}/ns/net", []
        from ipaddress import IPv4Address

        networks = self._networks()
        network = networks.get("bridge" if mode == "default" else mode)
        try:
            endpoint, held = networks.connect(
                record.id,
                network,
                port_mappings(record, options),
                wanted=IPv4Address(options.ip) if options.ip else None,
                mac=options.mac_address,
            )
        except (PortAllocated, PortRefused) as error:
            # Docker's sentence names an endpoint that, like ours, is gone again.
            where = f"endpoint {record.name} ({os.urandom(32).hex()})"
            error.args = (f"driver failed programming external connectivity on {where}: {error.message}",)
            raise
        return endpoint, endpoint.namespace, held


def port_mappings(record: ContainerRecord, options: ContainerOptions) -> list[PortMapping]:
    """`-p` values, and with `-P` every exposed port that has none."""
    mappings = list(options.publish)
    if options.publish_all:
        have = {(mapping.container_port, mapping.protocol) for mapping in mappings}
        for text in config.exposed_ports(preparation.image_config_of(record), options):
            mappings += [PortMapping(*port) for port in parse_exposed(text) if port not in have]
    return mappings


def log_size(options: ContainerOptions) -> int | None:
    """`--log-opt max-size` in bytes."""
    text = options.log_options.get("max-size", "")
    return parse_size(text, text) if text and text != "-1" else None
