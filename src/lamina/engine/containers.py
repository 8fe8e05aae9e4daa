"""Containers: made from images, started, watched, changed and removed (C13-C15, C18-C32).

What a container does once it exists is `lamina.runtime.supervisor`'s; here it gets its image, its name and its
writable layer, and is shown in Docker's terms.
"""

from __future__ import annotations

import os
import re
import signal as signals
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lamina.engine import writable
from lamina.errors import Invalid, LaminaError, Unsupported
from lamina.progress import ProgressSink, discard
from lamina.runtime import ids
from lamina.runtime.config import ContainerOptions
from lamina.runtime.signals import signal_number
from lamina.runtime.state import ContainerRecord, NameTaken, NoSuchContainer, WrongState
from lamina.runtime.supervisor import Supervisor
from lamina.spec.timestamp import rfc3339
from lamina.values import dataclass, replace

if TYPE_CHECKING:
    from datetime import datetime

    from lamina.engine.engine import Engine
    from lamina.engine.filters import Pairs
    from lamina.engine.transfer import Policy
    from lamina.runtime.execs import Execs
    from lamina.runtime.logs import LogEntry
    from lamina.spec.platform import Platform
    from lamina.spec.reference import Reference
    from lamina.store.lookup import Found

_NAME = r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+"
_ATTEMPTS = 10


class InvalidName(Invalid):
    """Not a name for a container.

    Attributes:
        name: asked for.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
        self.name = name


@dataclass(frozen=True, slots=True)
class NewContainer:
    """What a container is made of.

    Attributes:
        image: as the user typed it.
        options: the user's wishes.
        name: "" for a generated one.
        platform: wanted, or None.
        policy: whether to pull.
        streams: what an attached client gets: of `stdin`, `stdout`, `stderr`.
    """

    image: str
    options: ContainerOptions
    name: str = ""
    platform: Platform | None = None
    policy: Policy = "missing"
    streams: tuple[str, ...] = ("stdout", "stderr")


@dataclass(frozen=True, slots=True)
class PrunedContainers:
    """What a prune did: ids that are gone, and bytes of content that were theirs."""

    ids: tuple[str, ...]
    bytes: int


class Containers:
    """The containers of one engine.

    Attributes:
        warn: told in one line each what this machine does not allow; edges may set it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.warn: Callable[[str], None] = lambda _message: None

    @cached_property
    def supervisor(self) -> Supervisor:
        """What starts, stops and watches them."""
        engine = self._engine
        return Supervisor(
            engine.runtime_paths,
            engine.store.db,
            discard=lambda record: writable.drop(engine.store, record),
            clock=engine.clock,
            warn=lambda message: self.warn(message),  # noqa: PLW0108 - edges set it later
        )

    @cached_property
    def execs(self) -> Execs:
        """What starts further processes in them."""
        from lamina.runtime.execs import Execs

        return Execs(self.supervisor)

    # --- making --------------------------------------------------------------------------------------------------

    def create(
        self,
        new: NewContainer,
        *,
        progress: ProgressSink = discard,
        missing: Callable[[Reference], None] | None = None,
    ) -> ContainerRecord:
        """Makes a container that does not run yet.

        Args:
            new: what it is made of.
            progress: receives the events of a pull.
            missing: called before an image that is not here is pulled.

        Raises:
            InvalidName, NameTaken: the name.
            ImageNotFound, ...: the image, as `Transfer.ensure`.
            Invalid, NoCommand, NoSuchContainer, ...: the options.
            NoPrivilege: this user cannot run containers.
        """
        from lamina.engine.container_checks import check_options
        from lamina.runtime import privilege

        privilege.require()
        if new.name and not re.fullmatch(_NAME, new.name):
            raise InvalidName(new.name)
        check_options(new.options)
        if new.options.runtime:
            from lamina.runtime import oci

            oci.check_name(new.options.runtime)
        found = self._image(new, progress, missing)
        store = self._engine.store
        config = store.images.config(found.image.id).config
        container_id = ids.container_id()
        parent = store.images.snapshot(found.image.id)
        with store.lease("create a container") as lease:
            key = f"container-{container_id}"
            target = os.path.join(self._engine.runtime_paths.container(container_id), "rootfs")
            store.snapshots.prepare(key, parent, lease=lease)
            try:
                os.makedirs(target, mode=0o711)
                record = ContainerRecord(
                    container_id,
                    "",
                    rfc3339(self._engine.clock()),
                    str(found.image.id),
                    key,
                    self._resolved(new.options).to_json(),
                    config.to_json(),
                    writable.rootfs_doc(store, key, target, throwaway=new.options.auto_remove),
                    engine={
                        "image": new.image,
                        "root": store.root,
                        "remove_hook": writable.HOOK,
                        "streams": list(new.streams),
                    },
                )
                return self._add(record, new.name)
            except BaseException:
                _remove_directory(os.path.dirname(target))
                store.snapshots.remove(key)
                raise

    def _image(self, new: NewContainer, progress: ProgressSink, missing: Callable[[Reference], None] | None) -> Found:
        if new.policy == "missing" and new.platform is None:
            # The common case asks for nothing that talks to registries.
            found = self._engine.store.lookup.try_find(new.image)
            if found is not None:
                return found
        return self._engine.transfer.ensure(
            new.image, platform=new.platform, policy=new.policy, progress=progress, missing=missing
        )

    def _add(self, record: ContainerRecord, name: str) -> ContainerRecord:
        if name:
            return self.supervisor.create(replace(record, name=name.removeprefix("/")))
        from lamina.engine.names import name_for

        attempt = 0
        while True:
            try:
                return self.supervisor.create(replace(record, name=name_for(_any, attempt)))
            except NameTaken:
                attempt += 1
                if attempt == _ATTEMPTS:
                    raise

    # --- life ----------------------------------------------------------------------------------------------------

    def settle(self, container_id: str) -> int:
        """The exit code of a container whose streams have ended; everything it needed is gone then.

        conmon has usually noted the code by then, so that nobody has to be asked to tell when it does.

        Raises:
            NoSuchContainer: it was removed while we looked away.
        """
        from lamina.runtime import conmon

        if conmon.exit_code(self.supervisor.paths.run(container_id)) is not None:
            record = self.supervisor.finish(container_id)
            if record is not None and not record.state.running:
                return record.state.exit_code
        return self.supervisor.wait(container_id) or 0

    def kill(self, name: str, signal: str) -> None:
        """Sends a signal; one that ends processes also keeps the restart policy from starting it again.

        Raises:
            NoSuchContainer: none fits.
            WrongState: it does not run.
            Invalid: no such signal.
        """
        number = signal_number(signal)
        try:
            record = self.supervisor.find(name)
        except NoSuchContainer as error:
            error.args = (f"cannot kill container: {name}: {error.message}",)  # the error stays what it is
            raise
        if number == signals.SIGKILL and record.state.running:
            self.supervisor.containers.update(record.id, lambda state: replace(state, stopped_by_user=True))
        try:
            self.supervisor.kill(name, signal)
        except WrongState as error:
            raise WrongState(
                f"cannot kill container: {name}: container {error.container_id} is not running",
                error.container_id,
                error.status,
            ) from None

    def restart(self, name: str, signal: str = "", seconds: int | None = None) -> None:
        """Stops a container and starts it again; one with `--rm` outlives this stop, as Docker's does.

        Raises:
            NoSuchContainer: none fits.
            RuntimeCallFailed, ...: as `Supervisor.start`.
        """
        record = self.supervisor.find(name)
        throwaway = bool(record.options.get("auto_remove"))
        if throwaway and record.state.running:
            self._set_auto_remove(record.id, on=False)
        try:
            self.supervisor.stop(record.id, signal=signal, seconds=seconds)
            if throwaway:
                self.supervisor.containers.edit(
                    record.id, lambda each: replace(each, rootfs=writable.reusable(dict(each.rootfs)))
                )
        finally:
            if throwaway:
                self._set_auto_remove(record.id, on=True)
        try:
            self.supervisor.start(record.id)
        except LaminaError as error:
            error.args = (f"Cannot restart container {name}: {error.message}",)
            raise

    def _set_auto_remove(self, container_id: str, *, on: bool) -> None:
        def change(record: ContainerRecord) -> ContainerRecord:
            options = ContainerOptions.from_json(record.options)
            return replace(record, options=replace(options, auto_remove=on).to_json())

        self.supervisor.containers.edit(container_id, change)

    def rename(self, name: str, new_name: str) -> None:
        """Gives a container another name.

        Raises:
            NoSuchContainer, InvalidName, NameTaken: see there.
        """
        record = self.supervisor.find(name)
        wanted = new_name.removeprefix("/")
        if not re.fullmatch(_NAME, wanted):
            raise InvalidName(new_name)
        if wanted == record.name:
            raise Invalid("Renaming a container with the same name as its current name")
        self.supervisor.rename(record.id, wanted)

    def inspect(self, name: str, *, size: bool = False) -> dict[str, Any]:
        """Docker's JSON object of a container; with `size`, the bytes of its layer are counted.

        Raises:
            NoSuchContainer, AmbiguousContainer: none fits, or several.
        """
        from lamina.engine.container_inspection import container_json

        return container_json(self._engine, self.supervisor.find(name), size=size)

    def processes(self, name: str, arguments: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
        """The processes of a running container, as the host's ps(1) tells: titles, and a row for each.

        Args:
            name: of the container, or its id.
            arguments: for ps; `-ef` when there are none.

        Raises:
            NoSuchContainer: none fits.
            WrongState: it does not run.
            Invalid: ps refuses its arguments, or leaves the PID column out.
        """
        from lamina.engine.processes import processes

        record = self.supervisor.find(name)
        if not record.state.running:
            raise WrongState(f"container {record.id} is not running", record.id, record.state.status)
        return processes(record.state.pid, arguments)

    def prune(self, filters: Pairs = ()) -> PrunedContainers:
        """Removes every container that does not run.

        Raises:
            InvalidFilter, InvalidMoment: malformed filters; there are `label label! until`.
        """
        from lamina.engine.filters import Filters
        from lamina.engine.listing import labels_of, size_of
        from lamina.spec.timestamp import parse_rfc3339

        chosen = Filters(filters, {"label", "label!", "until"})
        until = chosen.until(self._engine.clock())
        ids, size = [], 0
        for record in self.supervisor.all():
            if record.state.running or record.state.status in {"restarting", "removing"}:
                continue
            if not chosen.labels(labels_of(record, ContainerOptions.from_json(record.options))):
                continue
            if until is not None and parse_rfc3339(record.created_at) >= until:
                continue
            own = size_of(self._engine, record).own
            try:
                self.supervisor.remove(record.id)
            except (NoSuchContainer, WrongState):
                continue  # gone, or started, meanwhile
            ids.append(record.id)
            size += own
        return PrunedContainers(tuple(ids), size)

    def update(self, name: str, changes: Mapping[str, Any]) -> None:
        """Changes limits and the restart policy, of a running container at once.

        Args:
            name: of the container, or its id.
            changes: members of `ContainerOptions`.

        Raises:
            NoSuchContainer: none fits.
            Invalid: the policy does not go with `--rm`, or a limit makes no sense, or the kernel refuses it.
            WrongState: it ended just now.
        """
        from lamina.engine.container_checks import check_limits
        from lamina.engine.limits import apply_limits
        from lamina.runtime import host as host_module
        from lamina.runtime import oci

        record = self.supervisor.find(name)
        options = replace(ContainerOptions.from_json(record.options), **changes)
        if options.auto_remove and options.restart.name != "no":
            raise Invalid("Restart policy cannot be updated because AutoRemove is enabled for the container")
        limits = {key: value for key, value in changes.items() if key != "restart"}
        if limits:
            check_limits(options)
        if limits and record.state.running:
            run_root, cgroups = self.supervisor.paths.run_root, host_module.cgroup_mode()
            runtime = oci.holding(run_root, record.id, options.runtime, cgroups=cgroups)
            if runtime is None:
                raise WrongState(f"container {record.id} is not running", record.id, "exited")
            apply_limits(runtime, record, options, limits)
        self.supervisor.containers.edit(record.id, lambda each: replace(each, options=options.to_json()))

    def logs(
        self,
        record: ContainerRecord,
        *,
        tail: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        follow: bool = False,
    ) -> Iterator[LogEntry]:
        """What a container wrote; see `lamina.runtime.logs.read`.

        Raises:
            Unsupported: it keeps no log (`--log-driver none`).
        """
        from lamina.runtime import logs

        if record.options.get("log_driver") == "none":
            raise Unsupported("configured logging driver does not support reading")

        def alive() -> bool:
            with suppress(NoSuchContainer):
                return self.supervisor.find(record.id).state.status in {"running", "paused", "restarting"}
            return False

        path = self._engine.runtime_paths.log(record.id)
        return logs.read(path, tail=tail, since=since, until=until, follow=alive if follow else None)

    def _resolved(self, options: ContainerOptions) -> ContainerOptions:
        """Names of other containers as ids, which stay when those are renamed."""
        changes: dict[str, Any] = {}
        for member in ("network", "pid", "ipc"):
            kind, colon, name = str(getattr(options, member)).partition(":")
            if colon and kind == "container":
                changes[member] = f"container:{self.supervisor.containers.find(name).id}"
        return replace(options, **changes) if changes else options


def _any(words: Sequence[str]) -> str:
    """One of the words, at random; `secrets` and `random` load OpenSSL's hashes, which takes milliseconds."""
    return words[int.from_bytes(os.urandom(8), "big") % len(words)]


def _remove_directory(path: str) -> None:
    import shutil

    with suppress(OSError):
        shutil.rmtree(path)
