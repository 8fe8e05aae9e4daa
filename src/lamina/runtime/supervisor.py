"""Containers that outlive the command that started them: create, start, signal, wait, finish, remove.

There is no daemon. Each container has its conmon; whoever looks at a container (a command, or the exit command that
conmon runs) first settles what happened to it meanwhile. All of them take the container's lock for a change of state.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal as signals
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any, Final

from lamina.errors import Invalid, LaminaError, NotFound
from lamina.linux import inotify
from lamina.runtime import config, conmon, oci, preparation, process, rootfs_mount, seccomp_cache
from lamina.runtime import host as host_module
from lamina.runtime.bundle import oci_spec
from lamina.runtime.config import ContainerOptions
from lamina.runtime.host import HostFacts
from lamina.runtime.network.bridge import Endpoint, Networks
from lamina.runtime.network.ports import PortMapping, parse_exposed
from lamina.runtime.paths import RuntimePaths
from lamina.runtime.state import ContainerRecord, Containers, ContainerState, NoSuchContainer, WrongState
from lamina.runtime.volumes import VolumeInUse, Volumes
from lamina.spec.timestamp import rfc3339, utc_now
from lamina.store.db import Database
from lamina.values import replace

Discard = Callable[[ContainerRecord], None]
STOP_SECONDS: Final = 10
_KILL_SECONDS: Final = 10.0
_EXITED: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "exited.py")


def signal_number(name: str) -> int:
    """`SIGTERM`, `TERM`, `term`, `15` or `SIGRTMIN+3` as a number.

    Raises:
        Invalid: Linux has no such signal.
    """
    text = name.strip().upper()
    if text.isdigit() and 0 < int(text) < 65:
        return int(text)
    base, plus, offset = text.removeprefix("SIG").partition("+")
    if plus and base == "RTMIN" and offset.isdigit() and int(offset) <= 30:
        return int(signals.SIGRTMIN) + int(offset)
    try:
        return int(signals.Signals[f"SIG{base}"]) if not plus else _invalid_signal(name)
    except KeyError:
        return _invalid_signal(name)


def _invalid_signal(name: str) -> int:
    raise Invalid(f"invalid signal: {name}")


class Supervisor:
    """The containers of one store. Thread-safe, and safe beside other processes on the same store.

    Args:
        paths: the runtime's directories.
        database: the store's index.
        discard: removes a container's writable layer, called when the container is removed.
        host: the machine's facts; probed when needed and not given.
        clock: the time.
        warn: told, in one line each, what the machine does not allow.
        python: interpreter that runs the exit command.
    """

    def __init__(
        self,
        paths: RuntimePaths,
        database: Database,
        *,
        discard: Discard = lambda _record: None,
        host: HostFacts | None = None,
        clock: Callable[[], datetime] = utc_now,
        warn: Callable[[str], None] = lambda _message: None,
        python: str = sys.executable,
    ) -> None:
        self.paths = paths
        self.containers = Containers(database)
        self.networks = Networks(database, paths, lambda: rfc3339(clock()))
        self.volumes = Volumes(database, paths.volumes, lambda: rfc3339(clock()))
        self._database = database
        self._discard = discard
        self._host_facts = host
        self._clock = clock
        self._warn = warn
        self._python = python

    # -- create and remove ---------------------------------------------------------------------------------------

    def create(self, record: ContainerRecord) -> ContainerRecord:
        """Remembers a new container: its options are checked, its volumes made.

        Args:
            record: with id, name, options, image_config and rootfs; mounts and state are filled in here.

        Raises:
            NameTaken: another container has its name.
            Invalid: an option makes no sense.
        """
        options = ContainerOptions.from_json(record.options)
        image = preparation.image_config_of(record)
        config.command_line(image, options)
        inherited = [doc for name in options.volumes_from for doc in self._volumes_of(name)]
        if options.auto_remove and options.restart.name != "no":
            raise Invalid("can't create 'AutoRemove' container with restart policy")
        record = replace(record, mounts=preparation.resolve_mounts(image, options, self.volumes, inherited))
        os.makedirs(self.paths.container(record.id), mode=0o710, exist_ok=True)
        try:
            self.containers.add(record)
        except BaseException:
            shutil.rmtree(self.paths.container(record.id), ignore_errors=True)
            self._remove_anonymous_volumes(record)
            raise
        return record

    def remove(self, name: str, *, force: bool = False, volumes: bool = False) -> str:
        """Removes a container; returns its id.

        Args:
            name: name or id.
            force: kill it when it runs.
            volumes: remove its anonymous volumes too.

        Raises:
            NoSuchContainer: none fits.
            WrongState: it runs and `force` is not given.
        """
        record = self.find(name)
        if record.state.running or record.state.status == "restarting":
            if not force:
                state = record.state.status
                raise WrongState(
                    f'cannot remove container "/{record.name}": container is {state}: stop the container before'
                    " removing or force remove",
                    record.id,
                    state,
                )
            self._mark_stopped(record.id)
            with suppress(WrongState):
                self.kill(record.id, "KILL")
            self.wait(record.id)
        with self._lock(record.id):
            self._remove_locked(record.id, volumes=volumes)
        return record.id

    def rename(self, name: str, new_name: str) -> None:
        """Gives a container another name.

        Raises:
            NoSuchContainer: none fits.
            NameTaken: another container has the new name.
        """
        self.containers.rename(self.containers.find(name).id, new_name)

    def _remove_locked(self, container_id: str, *, volumes: bool) -> None:
        try:
            record = self.containers.find(container_id)
        except NoSuchContainer:
            return
        self.containers.update(container_id, lambda state: replace(state, status="removing"))
        self._teardown(record)
        self._discard(record)
        self.containers.remove(container_id)
        if volumes:
            self._remove_anonymous_volumes(record)
        shutil.rmtree(self.paths.container(container_id), ignore_errors=True)
        with suppress(FileNotFoundError):
            os.unlink(self._lock_path(container_id))

    def _remove_anonymous_volumes(self, record: ContainerRecord) -> None:
        for doc in record.mounts:
            if doc["type"] == "volume" and doc.get("anonymous"):
                with suppress(VolumeInUse, NotFound):
                    self.volumes.remove(doc["source"], self.volume_users(doc["source"], but=record.id))

    def volume_users(self, volume: str, *, but: str = "") -> list[str]:
        """Ids of the containers, running or not, that mount a volume."""
        return [
            record.id
            for record in self.containers.all()
            if record.id != but
            for doc in record.mounts
            if doc["type"] == "volume" and doc["source"] == volume
        ]

    def _volumes_of(self, spec: str) -> list[dict[str, Any]]:
        """The mounts that `--volumes-from name[:ro]` takes over."""
        name, _, mode = spec.partition(":")
        if mode not in {"", "ro", "rw"}:
            raise Invalid(f"invalid mode for volumes-from: {mode}")
        docs = [dict(doc) for doc in self.containers.find(name).mounts if doc["type"] != "tmpfs"]
        return [doc | {"readonly": True} for doc in docs] if mode == "ro" else docs

    # -- look ----------------------------------------------------------------------------------------------------

    def find(self, name: str) -> ContainerRecord:
        """A container by name or id, settled: one whose process is gone is not shown as running.

        Raises:
            NoSuchContainer: none fits.
            AmbiguousContainer: several ids start like that.
        """
        return self._settled(self.containers.find(name))

    def all(self) -> list[ContainerRecord]:
        """Every container, newest first, settled."""
        settled = []
        for record in self.containers.all():
            with suppress(NoSuchContainer):
                settled.append(self._settled(record))
        return settled

    def _settled(self, record: ContainerRecord) -> ContainerRecord:
        """Notes the end of a container whose conmon could not: killed, or gone with the last boot."""
        state = record.state
        if not state.running or process.alive(state.process) or process.alive(state.conmon):
            return record
        self.finish(record.id)
        return self.containers.find(record.id)

    @contextmanager
    def file_system(self, name: str) -> Iterator[tuple[ContainerRecord, str]]:
        """A container's root file system as a directory of the host, which stays for the block; it cannot start or end
        meanwhile. Volumes are not in it.

        Raises:
            NoSuchContainer: none fits.
        """
        record = self.find(name)
        with self._lock(record.id):
            record = self.containers.find(record.id)
            if record.state.running:
                yield record, rootfs_mount.path_of(record.rootfs)
                return
            root = rootfs_mount.mount(record.rootfs)
            try:
                yield record, root
            finally:
                rootfs_mount.unmount(record.rootfs)

    # -- start ---------------------------------------------------------------------------------------------------

    def start(
        self,
        name: str,
        *,
        attach: bool = False,
        console_size: tuple[int, int] | None = None,
        restarting: bool = False,
    ) -> tuple[ContainerRecord, socket.socket | None]:
        """Starts a container.

        Args:
            name: name or id.
            attach: connect to its streams before it starts; see `lamina.runtime.attach`.
            console_size: rows and columns of its terminal at first.
            restarting: by its restart policy, not by the user.

        Returns:
            The record, running, and the attach socket when asked for. A container that runs already is left alone.

        Raises:
            NoSuchContainer: none fits.
            CommandNotFound, CommandNotExecutable, StartRefused: exit codes 127, 126, 125.
            PortAllocated, NoSuchUser, UnsafePath, Invalid, ...: the container stays as it was.
        """
        record = self.find(name)
        with self._lock(record.id):
            record = self.containers.find(record.id)
            if record.state.status == "paused":
                raise WrongState("cannot start a paused container, try unpause instead", record.id, "paused")
            if record.state.running:
                return record, conmon.connect(self.paths.run(record.id)) if attach else None
            if restarting and (record.state.status != "restarting" or record.state.stopped_by_user):
                return record, None
            try:
                return self._start_locked(record, attach=attach, size=console_size, restarting=restarting)
            except BaseException as error:
                self._teardown(record)
                self._note_failure(record.id, error)
                raise

    def revive(self) -> list[str]:
        """Starts what should run after a reboot, by the restart policies; returns the ids of what was started.

        `always` starts whatever ran once, `unless-stopped` what the user did not stop, `on-failure` what the reboot
        ended. To be called once after boot; what runs already is left alone. A container that does not start is
        reported through `warn`, and the others are started all the same.
        """
        interrupted = {record.id for record in self.containers.all() if record.state.running}
        started = []
        for record in self.all():
            state, policy = record.state, ContainerOptions.from_json(record.options).restart
            if state.running or not state.started_at:
                continue
            wanted = policy.wants_restart(state.exit_code, 0, stopped_by_user=state.stopped_by_user)
            if policy.name != "always" and (
                not wanted or (policy.name == "on-failure" and record.id not in interrupted)
            ):
                continue
            try:
                self.start(record.id)
            except LaminaError as error:
                self._warn(f"container {record.name} did not start again: {error.message}")
            else:
                started.append(record.id)
        return started

    def _start_locked(
        self, record: ContainerRecord, *, attach: bool, size: tuple[int, int] | None, restarting: bool
    ) -> tuple[ContainerRecord, socket.socket | None]:
        options = ContainerOptions.from_json(record.options)
        host = self._host()
        shared = any(doc.get("propagation") in {"shared", "rshared"} for doc in record.mounts)
        runtime = oci.choose(self.paths.run_root, options.runtime, cgroups=host.cgroups, needs=oci.Needs(shared))
        directory = self.paths.run(record.id)
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory, mode=0o700)
        endpoint, namespace, held = self._join_network(record, options)
        try:
            root = rootfs_mount.mount(record.rootfs)
            partner = ""
            if options.network.startswith("container:"):
                partner = self.paths.container(self.containers.find(options.network.partition(":")[2]).id)
            mounts = [
                *preparation.etc_mounts(record, options, self.paths.container(record.id), endpoint, shared=partner),
                *preparation.oci_mounts(record, root, self.volumes),
            ]
            spec = preparation.container_spec(record, root, namespace, mounts, self._pid_of)
            spec = replace(spec, console_size=size if options.tty else None)
            devices = host_module.devices() if options.privileged else []
            bundle = oci_spec(spec, host, host_devices=devices, warn=self._warn)
            with open(os.path.join(directory, "config.json"), "w", encoding="utf-8") as file:
                json.dump(seccomp_cache.applied(self.paths.run_root, runtime, bundle), file)
            launch = conmon.Launch(
                runtime,
                record.id,
                directory,
                "" if options.log_driver == "none" else self.paths.log(record.id),
                tty=options.tty,
                stdin=options.stdin_open,
                stdin_once=options.stdin_once,
                exit_command=self._exit_command(record.id),
                # Whoever is attached tidies up itself, faster than a new interpreter could.
                exit_delay=1 if attach and options.restart.name == "no" else 0,
                log_size=log_size(options),
            )
            pid, connection = conmon.start(launch, attach=attach, hold=[holder.fileno() for holder in held])
            seccomp_cache.remember(self.paths.run_root, runtime, record.id, bundle)
        finally:
            for holder in held:
                holder.close()
        watcher = conmon.read_pid(conmon.conmon_pid_file(directory))
        return self._note_start(record, pid, watcher, endpoint, restarting=restarting), connection

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

        return self.containers.update(record.id, change)

    def _note_failure(self, container_id: str, error: BaseException) -> None:
        code = error.exit_code if isinstance(error, oci.RuntimeCallFailed) else 128
        message = error.message if isinstance(error, LaminaError) else str(error)

        def change(state: ContainerState) -> ContainerState:
            status = "exited" if state.status == "restarting" else state.status
            return replace(state, status=status, exit_code=code, error=message)

        with suppress(NoSuchContainer):
            self.containers.update(container_id, change)

    def _join_network(
        self, record: ContainerRecord, options: ContainerOptions
    ) -> tuple[Endpoint | None, str, list[socket.socket]]:
        mode = options.network or "bridge"
        if mode in {"host", "none"}:
            return None, mode, []
        if mode.startswith("container:"):
            return None, f"/proc/{self._pid_of(mode.partition(':')[2])}/ns/net", []
        network = self.networks.get("bridge" if mode == "default" else mode)
        endpoint, held = self.networks.connect(
            record.id,
            network,
            port_mappings(record, options),
            wanted=IPv4Address(options.ip) if options.ip else None,
        )
        return endpoint, endpoint.namespace, held

    def _pid_of(self, name: str) -> int:
        return preparation.running_pid(self.find(name))

    def _exit_command(self, container_id: str) -> tuple[str, ...]:
        # -I and -S: nothing of the user's environment, and a third of the start-up time.
        paths = self.paths
        return (self._python, "-I", "-S", _EXITED, paths.root, paths.run_root, paths.database, container_id)

    def _host(self) -> HostFacts:
        if self._host_facts is None:
            self._host_facts = host_module.probe()
        return self._host_facts

    # -- end -----------------------------------------------------------------------------------------------------

    def finish(self, container_id: str) -> ContainerRecord | None:
        """Settles a container that ended: notes how, takes its mounts and network away, applies `--rm`.

        Whoever sees the end first does it; for everyone else there is nothing left to do.

        Returns:
            The record as it is then, or None when the container was removed.
        """
        with self._lock(container_id):
            try:
                record = self.containers.find(container_id)
            except NoSuchContainer:
                os.unlink(self._lock_path(container_id))
                return None
            if not record.state.running:
                return record
            directory = self.paths.run(container_id)
            code = conmon.exit_code(directory)
            if code is None and (process.alive(record.state.process) or process.alive(record.state.conmon)):
                return record  # conmon, alive, has still to note how the process ended
            options = ContainerOptions.from_json(record.options)
            oom = conmon.oom_killed(directory)
            self._teardown(record)
            if options.auto_remove:
                self._remove_locked(container_id, volumes=True)
                return replace(record, state=_ended(record.state, code, "", oom=oom))
            now = rfc3339(self._clock())
            return self.containers.update(container_id, lambda state: _ended(state, code, now, oom=oom))

    def _teardown(self, record: ContainerRecord) -> None:
        """Takes away what a run needs; safe to repeat, and after a reboot."""
        directory = self.paths.run(record.id)
        options = ContainerOptions.from_json(record.options)
        with suppress(LaminaError):
            runtime = oci.holding(self.paths.run_root, record.id, options.runtime, cgroups=self._host().cgroups)
            if runtime is not None:
                oci.call(runtime.argv("delete", "--force", record.id))
        endpoint = record.state.endpoint
        self.networks.disconnect(record.id, Endpoint.from_json(endpoint) if endpoint else None)
        if record.rootfs:
            rootfs_mount.unmount(record.rootfs)
        _kill_stamped(record.state.conmon, but=os.getppid())
        shutil.rmtree(directory, ignore_errors=True)

    def wait(self, name: str, seconds: float | None = None) -> int | None:
        """Waits until a container does not run, and everything it needed is gone.

        Args:
            name: name or id.
            seconds: at most, or None for ever.

        Returns:
            The exit code, or None when time ran out.

        Raises:
            NoSuchContainer: none fits, or it was removed while we looked away.
        """
        record = self.find(name)
        deadline = None if seconds is None else time.monotonic() + seconds
        while record.state.running:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            if self._wait_for_exit(record, left):
                ended = self.finish(record.id)
                if ended is None:
                    return record.state.exit_code
                record = ended
            else:
                record = self.containers.find(record.id)
        return record.state.exit_code

    def _wait_for_exit(self, record: ContainerRecord, seconds: float | None) -> bool:
        """Waits for conmon's note or conmon's end; False when time ran out first."""
        directory = self.paths.run(record.id)
        pid = int(record.state.conmon.partition(" ")[0] or 0)
        try:
            watcher = os.pidfd_open(pid) if process.alive(record.state.conmon) else -1
        except ProcessLookupError:
            watcher = -1
        if watcher < 0:
            return self._wait_for_process(record, seconds)
        try:
            with inotify.Watch() as watch:
                with suppress(OSError):
                    watch.add(directory, inotify.MOVED_TO | inotify.CREATE | inotify.DELETE_SELF)
                if conmon.exit_code(directory) is not None or not os.path.isdir(directory):
                    return True
                return _wait_any([watch.fd, watcher], seconds)
        finally:
            os.close(watcher)

    def _wait_for_process(self, record: ContainerRecord, seconds: float | None) -> bool:
        """The same without conmon, which was killed: the container's own process is watched."""
        if not process.alive(record.state.process):
            return True
        try:
            fd = os.pidfd_open(record.state.pid)
        except ProcessLookupError:
            return True
        try:
            return _wait_any([fd], seconds)
        finally:
            os.close(fd)

    # -- signals -------------------------------------------------------------------------------------------------

    def kill(self, name: str, signal: str = "KILL") -> None:
        """Sends a signal to the container's first process.

        Raises:
            WrongState: it does not run.
            Invalid: no such signal.
        """
        record = self.find(name)
        number = signal_number(signal)
        if not record.state.running:
            raise WrongState(
                f"cannot kill container: {name}: container {record.id} is not running", record.id, "exited"
            )
        try:
            fd = os.pidfd_open(record.state.pid)
        except ProcessLookupError:
            return
        try:
            if process.alive(record.state.process):
                if record.state.status == "paused" and number == signals.SIGKILL:
                    self._runtime_call(record, "resume")
                signals.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(fd)

    def stop(self, name: str, *, signal: str = "", seconds: int | None = None) -> int:
        """Asks a container to end, and kills it when it does not; returns its exit code.

        Args:
            name: name or id.
            signal: "" = the container's stop signal.
            seconds: of patience; None = the container's, usually 10; negative = endless.

        Raises:
            NoSuchContainer: none fits.
        """
        record = self.find(name)
        self._mark_stopped(record.id)
        if not record.state.running:
            return record.state.exit_code
        options = ContainerOptions.from_json(record.options)
        chosen = signal or config.stop_signal_of(preparation.image_config_of(record), options)
        patience = seconds if seconds is not None else options.stop_timeout
        patience = STOP_SECONDS if patience is None else patience
        if record.state.status == "paused":
            self.unpause(record.id)
        with suppress(WrongState):
            self.kill(record.id, chosen)
            code = self.wait(record.id, None if patience < 0 else patience)
            if code is None:
                self.kill(record.id, "KILL")
                code = self.wait(record.id, _KILL_SECONDS)
            if code is not None:
                return code
        with suppress(NoSuchContainer):
            return self.containers.find(record.id).state.exit_code
        return 0

    def pause(self, name: str) -> None:
        """Freezes all processes of a container.

        Raises:
            WrongState: it does not run, or is paused already.
        """
        record = self.find(name)
        if record.state.status != "running":
            word = "already paused" if record.state.status == "paused" else "not running"
            raise WrongState(f"Container {record.id} is {word}", record.id, record.state.status)
        with self._lock(record.id):
            self._runtime_call(record, "pause")
            self.containers.update(record.id, lambda state: replace(state, status="paused"))

    def unpause(self, name: str) -> None:
        """Thaws a container.

        Raises:
            WrongState: it is not paused.
        """
        record = self.find(name)
        if record.state.status != "paused":
            raise WrongState(f"Container {record.id} is not paused", record.id, record.state.status)
        with self._lock(record.id):
            self._runtime_call(record, "resume")
            self.containers.update(record.id, lambda state: replace(state, status="running"))

    def resize(self, name: str, rows: int, columns: int) -> None:
        """Sets the size of a container's terminal.

        Raises:
            NoSuchContainer: none fits.
        """
        conmon.resize(self.paths.run(self.containers.find(name).id), rows, columns)

    def attach(self, name: str) -> socket.socket:
        """Connects to the streams of a running container; see `lamina.runtime.attach`.

        Raises:
            WrongState: it does not run, or is paused.
        """
        record = self.find(name)
        if record.state.status == "paused":
            raise WrongState("You cannot attach to a paused container, unpause it first", record.id, "paused")
        if not record.state.running:
            raise WrongState("You cannot attach to a stopped container, start it first", record.id, record.state.status)
        return conmon.connect(self.paths.run(record.id))

    def _mark_stopped(self, container_id: str) -> None:
        def change(state: ContainerState) -> ContainerState:
            status = "exited" if state.status == "restarting" else state.status
            return replace(state, stopped_by_user=True, status=status)

        self.containers.update(container_id, change)

    def _runtime_call(self, record: ContainerRecord, *words: str) -> bytes:
        wanted = ContainerOptions.from_json(record.options).runtime
        runtime = oci.holding(self.paths.run_root, record.id, wanted, cgroups=self._host().cgroups)
        if runtime is None:
            raise WrongState(f"container {record.id} is not running", record.id, "exited")
        return oci.call(runtime.argv(*words, record.id))

    def _lock_path(self, container_id: str) -> str:
        return os.path.join(self.paths.run_root, "locks", container_id)

    @contextmanager
    def _lock(self, container_id: str) -> Iterator[None]:
        """One change of a container at a time, over all processes."""
        path = self._lock_path(container_id)
        os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
        while True:
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.fstat(fd).st_ino == os.stat(path).st_ino:
                    break
            os.close(fd)  # removed with its container while we waited
        try:
            yield
        finally:
            os.close(fd)


def _ended(state: ContainerState, code: int | None, now: str, *, oom: bool) -> ContainerState:
    return replace(
        state,
        status="exited",
        pid=0,
        process="",
        conmon="",
        # Without conmon's note nobody knows; 137 is what a killed container looks like to Docker.
        exit_code=137 if code is None else code,
        oom_killed=oom,
        finished_at=now,
        endpoint=None,
    )


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
    from lamina.runtime.mount_spec import parse_size

    text = options.log_options.get("max-size", "")
    return parse_size(text, text) if text and text != "-1" else None


def _wait_any(fds: Sequence[int], seconds: float | None) -> bool:
    import select

    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(0, int(seconds * 1000))))


def _kill_stamped(stamp: str, but: int) -> None:
    """Ends a conmon that has nothing left to watch, unless it is the one that runs us."""
    pid = int(stamp.partition(" ")[0] or 0)
    if pid and pid != but and process.alive(stamp):
        with suppress(ProcessLookupError):
            os.kill(pid, signals.SIGKILL)
