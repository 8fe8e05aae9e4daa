"""A command that starts or removes a container is killed at every place: what it leaves is told truly and cleaned up."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lamina.errors import LaminaError
from lamina.linux import mounts
from lamina.runtime import locks, process, recovery
from lamina.runtime.config import RestartPolicy
from lamina.runtime.state import NoSuchContainer
from lamina.runtime.supervisor import Supervisor
from lamina.store.db import Database
from lamina.testing import kill_points, leftovers
from lamina.testing.container_store import ContainerStore

pytestmark = [pytest.mark.root, pytest.mark.runtime]
FEW = 9


def another(store: ContainerStore) -> Supervisor:
    """What a new command works with."""
    return Supervisor(store.paths, Database(store.paths.database))


def starting(store: ContainerStore, container_id: str) -> Callable[[], object]:
    return lambda: another(store).start(container_id)


def removing(store: ContainerStore, container_id: str) -> Callable[[], object]:
    return lambda: another(store).remove(container_id, force=True, volumes=True)


def unwatched(container_id: str) -> bool:
    """Whether no conmon is there for the container, or only such as are about to end with their exit command."""
    for pid in recovery.watchers(container_id):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended = select.select([fd], [], [], 20)[0]
        os.close(fd)
        if not ended:
            return False
    return True


def tells_the_truth(store: ContainerStore, container_id: str) -> bool:
    """Whether the container runs; the record and the machine have to agree on it."""
    supervisor = another(store)
    try:
        record = supervisor.find(container_id)
        if record.state.running and not process.alive(record.state.process):
            supervisor.wait(record.id)  # its conmon, alive, is about to note the end
            record = supervisor.find(container_id)
        while record.state.status == "removing":
            with locks.holding(store.paths.run_root, container_id):
                pass  # the exit command has the lock, and completes the removal
            record = supervisor.find(container_id)
    except NoSuchContainer:
        return False
    assert record.state.running == process.alive(record.state.process), record.state
    assert process.alive(record.state.conmon) if record.state.running else unwatched(container_id), record.state
    if not record.state.running:
        assert record.state.status in {"created", "exited"}
        assert mounts.mount_points(record.rootfs["target"]) == []
        assert not os.path.exists(store.paths.run(container_id))
        assert not os.path.exists(store.paths.namespace(container_id))
    return record.state.running


def control_groups(container_id: str) -> list[str]:
    """Where the container has a control group."""
    tops = ("/sys/fs/cgroup", *(f"/sys/fs/cgroup/{name}" for name in os.listdir("/sys/fs/cgroup")))
    return [top for top in tops if os.path.isdir(f"{top}/lamina/{container_id}")]


def nothing_left(store: ContainerStore, container_id: str) -> None:
    assert unwatched(container_id)
    assert not os.path.exists(store.paths.container(container_id))
    assert control_groups(container_id) == []
    with store.database.read() as connection:
        for table in ("endpoints", "ports"):
            query = f"SELECT count(*) FROM {table} WHERE container_id = ?"
            assert connection.execute(query, (container_id,)).fetchone() == (0,)


def places_of(store: ContainerStore, make: Callable[[ContainerStore, str], Callable[[], object]], ready: bool) -> int:
    container_id = store.create("sleep", "1000")
    if ready:
        store.supervisor.start(container_id)
    count = len(kill_points.places(make(store, container_id)))
    if not ready:
        store.supervisor.remove(container_id, force=True)
    return count


def kill_starts(store: ContainerStore, step: int) -> None:
    for number in range(0, places_of(store, starting, ready=False), step):
        container_id = store.create("sleep", "1000")
        kill_points.killed_at(number, starting(store, container_id))
        tells_the_truth(store, container_id)
        another(store).start(container_id)
        assert tells_the_truth(store, container_id)
        another(store).remove(container_id, force=True, volumes=True)
        nothing_left(store, container_id)


def kill_removals(store: ContainerStore, step: int) -> None:
    for number in range(0, places_of(store, removing, ready=True), step):
        container_id = store.create("sleep", "1000")
        store.supervisor.start(container_id)
        kill_points.killed_at(number, removing(store, container_id))
        tells_the_truth(store, container_id)
        try:
            another(store).remove(container_id, force=True, volumes=True)
        except NoSuchContainer:
            pass
        nothing_left(store, container_id)


def test_a_start_that_is_killed_here_and_there(store: ContainerStore) -> None:  # F22
    kill_starts(store, FEW)


def test_a_removal_that_is_killed_here_and_there(store: ContainerStore) -> None:  # F22
    kill_removals(store, FEW)


@pytest.mark.soak
def test_a_start_that_is_killed_anywhere(store: ContainerStore) -> None:  # F22
    kill_starts(store, 1)


@pytest.mark.soak
def test_a_removal_that_is_killed_anywhere(store: ContainerStore) -> None:  # F22
    kill_removals(store, 1)


def killing_runtime(tmp_path: Path, victim: Path, *, before: bool) -> str:
    """crun, which kills the command that waits for it: before it starts the container, or when it has."""
    real = "/usr/bin/crun" if os.path.exists("/usr/bin/crun") else "/usr/sbin/runc"
    kill = f'kill -9 "$(cat {victim})"'
    run = f'{kill}; exec {real} "$@"' if before else f'{real} "$@"; code=$?; {kill}; exit $code'
    path = tmp_path / "killing"
    path.write_text(f'#!/bin/sh\ncase " $* " in *" run "*) {run};; *) exec {real} "$@";; esac\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("auto_remove", [True, False])
def test_killed_while_the_runtime_works(store: ContainerStore, tmp_path: Path, before: bool, auto_remove: bool) -> None:
    victim = tmp_path / "victim"
    runtime = killing_runtime(tmp_path, victim, before=before)
    container_id = store.create("sleep", "1000", runtime=runtime, auto_remove=auto_remove)

    def start() -> None:
        victim.write_text(str(os.getpid()))
        another(store).start(container_id)

    assert kill_points.killed_at(1 << 30, start)
    tells_the_truth(store, container_id)
    try:
        another(store).remove(container_id, force=True)
    except NoSuchContainer:
        assert auto_remove
    nothing_left(store, container_id)


def test_a_runtime_that_outlives_its_conmon_does_nothing_behind_the_one_who_cleans_up(
    store: ContainerStore, tmp_path: Path
) -> None:
    """conmon takes the program along that it started, and not what that started in turn."""
    real = "/usr/bin/crun" if os.path.exists("/usr/bin/crun") else "/usr/sbin/runc"
    victim, gate, slow = tmp_path / "victim", tmp_path / "gate", tmp_path / "slow"
    os.mkfifo(gate)
    slow.write_text(
        f'#!/bin/sh\ncase " $* " in *" run "*) kill -9 "$(cat {victim})"\n'
        f'sh -c \'read _ <{gate}; exec {real} "$@"\' sh "$@";; *) exec {real} "$@";; esac\n'
    )
    slow.chmod(0o755)
    container_id = store.create("sleep", "1000", runtime=str(slow), network="none")

    def start() -> None:
        victim.write_text(str(os.getpid()))
        another(store).start(container_id)

    assert kill_points.killed_at(1 << 30, start)
    held = os.open(gate, os.O_RDWR)  # whoever still comes to the gate waits at it
    try:
        assert not tells_the_truth(store, container_id)
        assert list(leftovers.still_running([store.paths.run(container_id)], patience=0)) == []
    finally:
        os.close(held)
    store.supervisor.remove(container_id)
    nothing_left(store, container_id)


@pytest.mark.parametrize("copied", [False, True])
def test_a_runtime_that_dies_halfway_blocks_nothing(store: ContainerStore, tmp_path: Path, copied: bool) -> None:
    """It leaves its state directory, where crun puts a copy of the bundle first, and an empty control group."""
    real = "/usr/bin/crun" if os.path.exists("/usr/bin/crun") else "/usr/sbin/runc"
    dying, once = tmp_path / "dying", tmp_path / "once"
    dying.write_text(
        f'#!/bin/sh\ncase " $* " in *" run "*) if ! [ -e {once} ]; then touch {once}\n'
        'for last; do [ "$before" != --bundle ] || bundle=$last; before=$last; done\n'
        'mkdir -p "$2/$last" /sys/fs/cgroup/pids/lamina/"$last"\n'
        f'{"cp" if copied else ":"} "$bundle/config.json" "$2/$last/"; kill -9 $$; fi;; esac\n'
        f'exec {real} "$@"\n'
    )
    dying.chmod(0o755)
    container_id = store.create("sleep", "1000", runtime=str(dying), network="none")
    with pytest.raises(LaminaError):
        store.supervisor.start(container_id)
    assert not tells_the_truth(store, container_id)
    assert control_groups(container_id) == []
    store.supervisor.start(container_id)
    assert tells_the_truth(store, container_id)
    store.supervisor.remove(container_id, force=True)
    nothing_left(store, container_id)


def test_a_seeding_that_is_killed_is_completed_by_the_next(store: ContainerStore, busybox_layer: Path) -> None:  # S58
    wanted = set(os.listdir(busybox_layer))
    volumes = store.supervisor.volumes
    count = len(kill_points.places(lambda: seeding(store, volumes.create("whole").name, busybox_layer)))
    assert set(os.listdir(volumes.get("whole").path)) == wanted
    for number in range(0, count, max(1, count // 25)):
        name = volumes.create(f"seeded-{number}").name
        kill_points.killed_at(number, partial(seeding, store, name, busybox_layer))
        seeding(store, name, busybox_layer)
        made = Path(volumes.get(name).path)
        assert set(os.listdir(made)) == wanted
        assert len(os.listdir(made / "bin")) == len(os.listdir(busybox_layer / "bin"))
        assert os.stat(made / "data/seed").st_uid == 33
        assert os.listdir(made.parent) == ["_data"]


def seeding(store: ContainerStore, name: str, image: Path) -> None:
    another(store).volumes.seed(name, str(image), "/")


def test_a_volume_whose_removal_is_killed_does_not_come_back_with_its_content(store: ContainerStore) -> None:
    volumes = store.supervisor.volumes

    def filled() -> str:
        volume = volumes.create("database")
        for name in ("a", "b", "c"):
            Path(volume.path, name).write_text("old")
        return volume.name

    filled()
    for number in range(len(kill_points.places(lambda: another(store).volumes.remove("database", [])))):
        filled()
        kill_points.killed_at(number, lambda: another(store).volumes.remove("database", []))
        if "database" in [volume.name for volume in volumes.all()]:
            volumes.remove("database", [])
        assert os.listdir(volumes.create("database").path) == []
    volumes.remove("database", [])


def test_a_killed_conmon_does_not_cost_the_restart_policy(store: ContainerStore) -> None:  # S20
    container_id = store.create("sleep", "1000", restart=RestartPolicy("always"), network="none")
    store.supervisor.start(container_id)
    state = store.supervisor.find(container_id).state
    for stamp in (state.conmon, state.process):
        end(int(stamp.split()[0]))
    while (found := store.supervisor.find(container_id).state).status != "running":
        assert found.status in {"exited", "restarting"}
    assert found.pid != state.pid
    store.supervisor.stop(container_id, seconds=0)


def test_a_container_killed_while_its_pause_was_noted_can_be_removed(store: ContainerStore) -> None:
    container_id = store.create("sleep", "1000", network="none")
    store.supervisor.start(container_id)
    count = len(kill_points.places(lambda: another(store).pause(container_id)))
    store.supervisor.unpause(container_id)
    for number in range(count):
        kill_points.killed_at(number, lambda: another(store).pause(container_id))
        if store.supervisor.find(container_id).state.status == "paused":
            store.supervisor.unpause(container_id)
    kill_points.killed_at(count - 1, lambda: another(store).pause(container_id))
    store.supervisor.remove(container_id, force=True)


def end(pid: int) -> None:
    fd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([fd], [], [], 30)
    os.close(fd)
