"""Containers that outlive the command that started them: create, start, signal, wait, finish, remove.

There is no daemon. Each container has its conmon; whoever looks at a container (a command, or the exit command that
conmon runs) first settles what happened to it meanwhile. All of them take the container's lock for a change of state.
"""

from __future__ import annotations

import os
import signal as signals
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from lamina.errors import Invalid, NotFound
from lamina.runtime import (
    config,
    conmon,
    finishing,
    locks,
    oci,
    preparation,
    process,
    recovery,
    rootfs,
    rootfs_mount,
    waiting,
)
from lamina.runtime import host as host_module
from lamina.runtime.config import ContainerOptions
from lamina.runtime.host import HostFacts
from lamina.runtime.paths import RuntimePaths, remove
from lamina.runtime.signals import signal_number
from lamina.runtime.state import ContainerRecord, Containers, ContainerState, NoSuchContainer, WrongState
from lamina.runtime.volumes import VolumeInUse, Volumes
from lamina.spec.timestamp import rfc3339, utc_now
from lamina.store.db import Database
from lamina.values import replace

if TYPE_CHECKING:
    import socket
    from datetime import datetime

    from lamina.runtime.network.bridge import Networks
    from lamina.runtime.starting import Starter

Discard = Callable[[ContainerRecord], None]
STOP_SECONDS: Final = 10
_KILL_SECONDS: Final = 10.0


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
        self.volumes = Volumes(database, paths.volumes, lambda: rfc3339(clock()))
        self._database = database
        self._discard = discard
        self._host_facts = host
        self._clock = clock
        self._warn = warn
        self._python = python

    @cached_property
    def networks(self) -> Networks:
        """The bridge networks of the store; loaded when first asked for, as many containers join none."""
        from lamina.runtime.network.bridge import Networks

        return Networks(self._database, self.paths, lambda: rfc3339(self._clock()))

    @cached_property
    def _starter(self) -> Starter:
        # The exit command ends containers and hardly ever starts one: it need not know how.
        from lamina.runtime.starting import Starter

        return Starter(
            self.paths,
            self.containers,
            lambda: self.networks,
            self.volumes,
            host=self._host,
            pid_of=lambda name: preparation.running_pid(self.find(name)),
            clock=self._clock,
            warn=self._warn,
            python=self._python,
        )

    def _host(self) -> HostFacts:
        if self._host_facts is None:
            self._host_facts = host_module.probe()
        return self._host_facts

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
            remove(self.paths.container(record.id))
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
        with locks.holding(self.paths.run_root, record.id):
            self._remove_locked(record.id, volumes=volumes)
        return record.id

    def rename(self, name: str, new_name: str) -> None:
        """Gives a container another name.

        Raises:
            NoSuchContainer: none fits.
            NameTaken: another container has the new name.
        """
        self.containers.rename(self.containers.find(name).id, new_name)

    def _remove_locked(self, container_id: str, *, volumes: bool, torn_down: bool = False) -> None:
        try:
            record = self.containers.find(container_id)
        except NoSuchContainer:
            return
        if not torn_down:
            self.containers.update(
                container_id, lambda state: replace(state, status="removing", removes_volumes=volumes)
            )
            self._teardown(record)
        # The record goes last: as long as it is there, whoever looks at it completes a removal that was killed.
        self._discard(record)
        if volumes:
            self._remove_anonymous_volumes(record)
        remove(self.paths.container(container_id))
        self.containers.remove(container_id, durable=not record.throwaway)
        with suppress(FileNotFoundError):
            os.unlink(locks.path_of(self.paths.run_root, container_id))

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
        """Notes what those could not who were killed, or gone with the last boot: an end, a start, a removal."""
        if not record.state.running and recovery.is_interrupted(record, self.paths):
            with locks.attempting(self.paths.run_root, record.id) as free:
                if free:
                    record = self._recovered(self.containers.find(record.id))
        state = record.state
        if not state.running or process.alive(state.process) or process.alive(state.conmon):
            return record
        same_boot = os.path.isdir(self.paths.run(record.id))
        self.finish(record.id)
        if same_boot:
            recovery.apply_policy(record, self.paths, self._python)
        return self.containers.find(record.id)

    def _recovered(self, record: ContainerRecord) -> ContainerRecord:
        """Completes or undoes what was killed halfway; the container's lock is held.

        Raises:
            NoSuchContainer: it was a removal, or the start of a throwaway container.
        """
        if record.state.running or not recovery.is_interrupted(record, self.paths):
            return record
        if record.state.status == "removing":
            self._remove_locked(record.id, volumes=record.state.removes_volumes)
            raise NoSuchContainer(record.name)
        directory = self.paths.run(record.id)
        # An empty directory: someone looked into the stopped container, or a start that had not got far.
        starting = os.path.isdir(directory) and bool(os.listdir(directory))
        if starting:
            survivor = recovery.survivor(directory, record.id, self._runtime_of(record))
            if survivor is not None:
                endpoint = self.networks.endpoint_of(record.id)
                return self.containers.update(record.id, lambda state: recovery.noted(state, survivor, endpoint))
            recovery.end_start(record.id, directory, but=os.getppid())
        self._teardown(record)
        if starting and ContainerOptions.from_json(record.options).auto_remove:
            self._remove_locked(record.id, volumes=True, torn_down=True)
            raise NoSuchContainer(record.name)
        return self.containers.update(record.id, lambda state: recovery.undone(state, starting=starting))

    def _teardown(self, record: ContainerRecord, *, last: bool = True) -> None:
        finishing.teardown(record, self.paths, lambda: self.networks, lambda: self._host().cgroups, last=last)

    def _runtime_of(self, record: ContainerRecord) -> oci.Runtime | None:
        """The runtime that has a container, or None."""
        wanted = ContainerOptions.from_json(record.options).runtime
        return oci.holding(self.paths.run_root, record.id, wanted, cgroups=self._host().cgroups)

    @contextmanager
    def file_system(self, name: str) -> Iterator[tuple[ContainerRecord, str]]:
        """A container's root file system as a directory of the host, which stays for the block; it cannot start or end
        meanwhile. Volumes are not in it.

        Raises:
            NoSuchContainer: none fits.
        """
        record = self.find(name)
        with locks.holding(self.paths.run_root, record.id):
            record = self.containers.find(record.id)
            if record.state.running:
                yield record, rootfs_mount.path_of(record.rootfs)
                return
            # The directory says that something is mounted, should this process be killed.
            directory = self.paths.run(record.id)
            os.makedirs(directory, mode=0o700, exist_ok=True)
            try:
                yield record, rootfs_mount.mount(record.rootfs)
            finally:
                rootfs_mount.unmount(record.rootfs)
                os.rmdir(directory)

    def stubs(self, record: ContainerRecord) -> frozenset[str]:
        """Empty mount points that a running container's root file system has for the time of the run, without `/`."""
        noted = rootfs.noted_stubs(finishing.stubs_file(self.paths.run(record.id)))
        try:
            return rootfs.standing_stubs(rootfs_mount.path_of(record.rootfs), noted) if noted else frozenset()
        except OSError:  # it ended just now
            return frozenset()

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
        with locks.holding(self.paths.run_root, record.id):
            record = self._recovered(self.containers.find(record.id))
            if record.state.status == "paused":
                raise WrongState("cannot start a paused container, try unpause instead", record.id, "paused")
            if record.state.running:
                return record, conmon.connect(self.paths.run(record.id)) if attach else None
            if restarting and (record.state.status != "restarting" or record.state.stopped_by_user):
                return record, None
            try:
                return self._starter.start(record, attach=attach, size=console_size, restarting=restarting)
            except BaseException as error:
                # A conmon whose runtime was killed may wait for ever.
                recovery.end_start(record.id, self.paths.run(record.id), but=os.getppid())
                self._teardown(record)
                self._starter.note_failure(record.id, error)
                raise

    # -- end -----------------------------------------------------------------------------------------------------

    def finish(self, container_id: str) -> ContainerRecord | None:
        """Settles a container that ended: notes how, takes its mounts and network away, applies `--rm`.

        Whoever sees the end first does it; for everyone else there is nothing left to do.

        Returns:
            The record as it is then, or None when the container was removed.
        """
        with locks.holding(self.paths.run_root, container_id):
            try:
                record = self._recovered(self.containers.find(container_id))
            except NoSuchContainer:
                with suppress(FileNotFoundError):
                    os.unlink(locks.path_of(self.paths.run_root, container_id))
                return None
            if not record.state.running:
                return record
            directory = self.paths.run(container_id)
            code = conmon.exit_code(directory)
            if code is None and (process.alive(record.state.process) or process.alive(record.state.conmon)):
                return record  # conmon, alive, has still to note how the process ended
            options = ContainerOptions.from_json(record.options)
            oom = conmon.oom_killed(directory)
            self._teardown(record, last=code is None)
            if options.auto_remove:
                self._remove_locked(container_id, volumes=True, torn_down=True)
                ended = replace(record, state=finishing.ended(record.state, code, "", oom=oom))
            else:
                now = rfc3339(self._clock())
                ended = self.containers.update(container_id, lambda state: finishing.ended(state, code, now, oom=oom))
            if code is not None:
                finishing.dismiss(record)
            return ended

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
            if waiting.wait_for_exit(self.paths.run(record.id), record, left):
                ended = self.finish(record.id)
                if ended is None:
                    return record.state.exit_code
                record = ended
            else:
                record = self.containers.find(record.id)
        return record.state.exit_code

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
                    with suppress(oci.RuntimeCallFailed):  # noted as paused, and not paused after all
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
        with locks.holding(self.paths.run_root, record.id):
            # Noted first: nobody could kill a frozen container that is not known to be frozen.
            self.containers.update(record.id, lambda state: replace(state, status="paused"))
            try:
                self._runtime_call(record, "pause")
            except BaseException:
                self.containers.update(record.id, lambda state: replace(state, status="running"))
                raise

    def unpause(self, name: str) -> None:
        """Thaws a container.

        Raises:
            WrongState: it is not paused.
        """
        record = self.find(name)
        if record.state.status != "paused":
            raise WrongState(f"Container {record.id} is not paused", record.id, record.state.status)
        with locks.holding(self.paths.run_root, record.id):
            try:
                self._runtime_call(record, "resume")
            except oci.RuntimeCallFailed as error:
                if "not paused" not in error.said:
                    raise
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
        runtime = self._runtime_of(record)
        if runtime is None:
            raise WrongState(f"container {record.id} is not running", record.id, "exited")
        return oci.call(runtime.argv(*words, record.id))
