"""The end of a run: what a container's process, mounts and network leave behind is taken away, and its end noted."""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from lamina.errors import LaminaError
from lamina.runtime import cgroups as control_groups
from lamina.runtime import conmon, oci, process, rootfs, rootfs_mount, volume_driver
from lamina.runtime.bundle import CGROUP_PARENT
from lamina.runtime.config import ContainerOptions
from lamina.runtime.paths import RuntimePaths, remove
from lamina.runtime.state import ContainerRecord, ContainerState
from lamina.values import replace

if TYPE_CHECKING:
    from lamina.runtime.network.bridge import Networks


def teardown(
    record: ContainerRecord,
    paths: RuntimePaths,
    networks: Callable[[], Networks],
    cgroups: Callable[[], str],
    *,
    last: bool = True,
) -> None:
    """Takes away what a run needs; safe to repeat, and after a reboot.

    Args:
        record: of the container, whose lock is held.
        paths: the runtime's directories.
        networks: that it may have joined; asked for only when its options let it join one.
        cgroups: the machine's layout (`HostFacts.cgroups`), asked for only when a runtime still has the container.
        last: its conmon has nothing to do any more; else the caller calls `dismiss` in the end.
    """
    directory = paths.run(record.id)
    options = ContainerOptions.from_json(record.options)
    if not (options.pid in {"", "private"} and _forgotten_by_crun(record.id, paths)):
        with suppress(LaminaError):
            runtime = oci.holding(paths.run_root, record.id, options.runtime, cgroups=cgroups())
            if runtime is not None:
                _delete(runtime, record.id)
        # A runtime that was killed before it wrote down what it had made does not know of its control group.
        control_groups.remove(f"{CGROUP_PARENT}/{record.id}")
    if record.state.endpoint or joins_network(options):
        _disconnect(record, networks())
    if record.rootfs:
        if not options.auto_remove:
            _remove_stubs(record, directory)
        rootfs_mount.unmount(record.rootfs)
    for doc in record.mounts:
        if doc["type"] == "volume":
            volume_driver.release(os.path.dirname(doc["path"]), record.id)
    if last:
        _kill_stamped(record.state.conmon)
    if options.ipc == "shareable":
        from lamina.runtime import shared_memory

        shared_memory.take_back(directory)
    remove(directory)


def joins_network(options: ContainerOptions) -> bool:
    """Whether a run gets a place in a bridge network, rather than the host's network, another container's or none."""
    return options.network not in {"host", "none"} and not options.network.startswith("container:")


def _disconnect(record: ContainerRecord, networks: Networks) -> None:
    from lamina.runtime.network.bridge import Endpoint

    endpoint = record.state.endpoint
    networks.disconnect(record.id, Endpoint.from_json(endpoint) if endpoint else None)


def dismiss(record: ContainerRecord) -> None:
    """Ends the conmon of a run that ended by itself, and the exit command that waits below it, unless that is us.

    Without a restart policy that command finds nothing to do any more, and a new interpreter to find that takes longer
    than all of the end of a run.
    """
    _kill_stamped(record.state.conmon, group=ContainerOptions.from_json(record.options).restart.name == "no")


def _forgotten_by_crun(container_id: str, paths: RuntimePaths) -> bool:
    """Does what `crun delete` does for a container that ended by itself, if only empty directories are left of it.

    With its first process the kernel ended all of a pid namespace; the runtime's own start takes 14 ms.
    """
    state = os.path.join(paths.run_root, "crun", container_id)
    if conmon.exit_code(paths.run(container_id)) is None or not os.path.isdir(state):
        return False
    if not control_groups.remove_empty(f"{CGROUP_PARENT}/{container_id}"):
        return False
    remove(state)
    return not os.path.isdir(state)


def _delete(runtime: oci.Runtime, container_id: str) -> None:
    """Has the runtime end and forget a container; one that it made only half, when it was killed, is taken apart."""
    with suppress(LaminaError):
        oci.call(runtime.argv("delete", "--force", container_id))
    state = os.path.join(runtime.root, container_id)
    if os.path.isdir(state):
        remove(state)


def stubs_file(directory: str) -> str:
    """Where a run notes, in its bundle, which mount points its root file system did not have."""
    return os.path.join(directory, "stubs.json")


def _remove_stubs(record: ContainerRecord, directory: str) -> None:
    """Takes away empty mount points, which are nobody's change (S24); left ones do no harm but show in an export."""
    stubs = rootfs.noted_stubs(stubs_file(directory))
    if stubs:
        with suppress(OSError):
            rootfs.remove_stubs(rootfs_mount.path_of(record.rootfs), stubs)


def ended(state: ContainerState, code: int | None, now: str, *, oom: bool) -> ContainerState:
    """The state after a run.

    Args:
        state: before.
        code: that conmon noted, or None.
        now: RFC 3339.
        oom: the kernel killed it for want of memory.
    """
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


def _kill_stamped(stamp: str, *, group: bool = False) -> None:
    """Ends a conmon that has nothing left to watch, unless it is the one that runs us; `group`: and its children."""
    pid = int(stamp.partition(" ")[0] or 0)
    if pid and pid not in {os.getpid(), os.getppid()} and process.alive(stamp):
        with suppress(ProcessLookupError):
            if group and os.getpgid(pid) == pid != os.getpgid(0):
                os.killpg(pid, signals.SIGKILL)
            else:
                os.kill(pid, signals.SIGKILL)
