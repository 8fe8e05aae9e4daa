"""Containers under conmon, from creation to removal."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from lamina.errors import Invalid
from lamina.linux import inotify, mounts
from lamina.runtime import attach, locks, oci, process, recovery, reviving, rootfs, signals, users
from lamina.runtime.config import ContainerOptions, RestartName, RestartPolicy
from lamina.runtime.mount_spec import InvalidMount, parse_mount, parse_tmpfs, parse_volume
from lamina.runtime.state import AmbiguousContainer, NameTaken, NoSuchContainer, WrongState
from lamina.spec.config import RunConfig

pytestmark = [pytest.mark.root, pytest.mark.runtime]
LOOP = ("sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done")


def line_of_log(store, container_id: str, wanted: str) -> None:
    """Waits until the container has printed a line."""
    from lamina.runtime import logs

    for entry in logs.read(store.paths.log(container_id), follow=lambda: True):
        if entry.data.decode().strip() == wanted:
            return


# -- foreground (C13, S21) ------------------------------------------------------------------------------------------


def test_foreground_run(store):
    done = store.run("sh", "-c", "echo out; echo err >&2; hostname; exit 5", network="none")
    assert (done.code, done.err) == (5, "err\n")
    assert done.out == f"out\n{done.id[:12]}\n"  # S21: hostname = short id
    record = store.supervisor.find(done.id)
    assert (record.state.status, record.state.exit_code, record.state.pid) == ("exited", 5, 0)
    assert record.state.started_at <= record.state.finished_at


def test_auto_remove_leaves_nothing(store):  # S20
    done = store.run("true", auto_remove=True, network="none")
    assert done.code == 0
    with pytest.raises(NoSuchContainer):
        store.supervisor.find(done.id)
    assert not os.path.exists(store.paths.container(done.id))


def test_a_run_without_a_bridge_does_not_load_what_makes_one():
    code = "import sys, lamina.cli.run, lamina.runtime.starting, lamina.runtime.network.ports; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "lamina.runtime.supervisor" in loaded
    assert {"socket", "ipaddress", "termios", "tempfile", "shutil", "lamina.linux.netlink"}.isdisjoint(loaded)


def test_input_is_passed_on_and_closed(store):
    data = b"".join(b"line %d\n" % number for number in range(50_000))
    done = store.run("cat", stdin=data, network="none")
    assert (done.code, done.out) == (0, data.decode())


def test_a_start_that_fails_before_its_gate_opens_leaves_no_process(store):
    container_id = store.create("true", user="nobody-here", network="none")
    with pytest.raises(users.NoSuchUser):
        store.supervisor.start(container_id)
    assert list(recovery.watchers(container_id)) == []
    assert not os.path.exists(store.paths.run(container_id))
    assert mounts.mount_points(store.supervisor.find(container_id).rootfs["target"]) == []


@pytest.mark.parametrize(
    ("argv", "code", "kind"),
    [
        (("nope",), 127, oci.CommandNotFound),
        (("/etc",), 126, oci.CommandNotExecutable),
    ],
)
def test_commands_that_cannot_start(store, argv, code, kind):  # C13
    container_id = store.create(*argv)
    with pytest.raises(kind) as caught:
        store.supervisor.start(container_id)
    assert caught.value.exit_code == code
    state = store.supervisor.find(container_id).state
    assert (state.status, state.exit_code, state.pid) == ("created", code, 0)
    assert "OCI runtime create failed" in state.error
    assert state.endpoint is None


def test_entrypoint_and_command_matrix(store):  # S31
    image = RunConfig(entrypoint=("echo", "entry"), cmd=("cmd",), env=("A=image", "B=image"), working_dir="/tmp")
    assert store.attach(store.create(image=image, network="none")).out == "entry cmd\n"
    assert store.attach(store.create("arg", image=image, network="none")).out == "entry arg\n"
    assert store.attach(store.create(image=image, network="none", entrypoint=("pwd",))).out == "/tmp\n"
    done = store.attach(
        store.create("-c", "echo $A $B $C", image=image, network="none", entrypoint=("sh",), env=("A=user", "C=user"))
    )
    assert done.out == "user image user\n"


def test_terminal_with_size(store):  # S21
    container_id = store.create(
        "sh", "-c", "tty; stty size; read x; stty size", tty=True, stdin_open=True, network="none"
    )
    _, connection = store.supervisor.start(container_id, attach=True, console_size=(33, 77))
    got = b""
    with connection:
        while b"33 77" not in got:
            got += connection.recv(1 << 16)[1:]
        store.supervisor.resize(container_id, 50, 120)
        # The size travels through another file than the input; ask until it arrived.
        connection.send(b"\n")
        while piece := connection.recv(1 << 16):
            got += piece[1:]
    assert b"/dev/pts/0\r\n" in got
    assert store.supervisor.wait(container_id) == 0


def test_detach_keys_leave_it_running(store):  # S22
    container_id = store.create("cat", stdin_open=True, tty=True, network="none")
    _, connection = store.supervisor.start(container_id, attach=True)
    read_end, write_end = os.pipe()
    os.write(write_end, b"abc\x10\x11ignored")
    with connection:
        keys = attach.parse_detach_keys(attach.DEFAULT_DETACH_KEYS)
        assert attach.pump(connection, stdin=read_end, stdout=None, stderr=None, detach_keys=keys) == "detached"
    assert store.supervisor.find(container_id).state.status == "running"
    os.close(read_end)
    os.close(write_end)
    with store.supervisor.attach(container_id) as again:
        again.send(b"\n\x04")
        got = b""
        while piece := again.recv(1 << 16):
            got += piece[1:]
    assert b"abc" in got
    assert b"ignored" not in got
    assert store.supervisor.wait(container_id) == 0


# -- background ------------------------------------------------------------------------------------------------------


def test_states_of_a_life(store):
    container_id = store.create(*LOOP, name="life", network="none")
    look = store.supervisor.find
    assert look("life").state.status == "created"
    store.supervisor.start("life")
    state = look("life").state
    assert state.status == "running"
    assert process.alive(state.process)
    assert process.alive(state.conmon)
    store.supervisor.pause("life")
    assert look("life").state.status == "paused"
    with pytest.raises(WrongState, match="already paused"):
        store.supervisor.pause("life")
    with pytest.raises(WrongState, match="cannot start a paused container"):
        store.supervisor.start("life")
    store.supervisor.unpause("life")
    line_of_log(store, container_id, "up")
    assert store.supervisor.stop("life", seconds=20) == 7
    assert look("life").state.status == "exited"
    store.supervisor.start("life")
    assert look(container_id[:12]).state.status == "running"
    with pytest.raises(WrongState, match="stop the container before removing"):
        store.supervisor.remove("life")
    store.supervisor.remove("life", force=True)
    with pytest.raises(NoSuchContainer, match="No such container: life"):
        look("life")


def test_names_and_prefixes(store):
    first = store.create("true", name="one")
    with pytest.raises(NameTaken, match=r'Conflict\. The container name "/one" is already in use by container'):
        store.create("true", name="one")
    store.supervisor.rename("one", "two")
    assert store.supervisor.find("/two").id == first
    with pytest.raises(NoSuchContainer):
        store.supervisor.find("one")
    others = [store.create("true") for _ in range(17)]
    with pytest.raises(AmbiguousContainer, match="Multiple IDs found with provided prefix"):
        for digit in "0123456789abcdef":
            if sum(identity.startswith(digit) for identity in [first, *others]) > 1:
                store.supervisor.find(digit)


def test_a_program_that_ignores_the_signal_is_killed(store):  # C31
    container_id = store.create("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done", network="none")
    store.supervisor.start(container_id)
    line_of_log(store, container_id, "up")
    assert store.supervisor.stop(container_id, seconds=0) == 137


def test_stop_signal_of_the_image(store):
    image = RunConfig(stop_signal="SIGUSR1")
    container_id = store.create(
        "sh", "-c", "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done", image=image, network="none"
    )
    store.supervisor.start(container_id)
    line_of_log(store, container_id, "up")
    assert store.supervisor.stop(container_id, seconds=20) == 9


def test_signals_by_name_and_number(store):  # C22
    container_id = store.create(
        "sh", "-c", "trap 'echo got; exit 3' HUP; echo up; while :; do sleep 0.05; done", network="none"
    )
    store.supervisor.start(container_id)
    line_of_log(store, container_id, "up")
    with pytest.raises(Invalid, match="invalid signal: SIGNOPE"):
        store.supervisor.kill(container_id, "SIGNOPE")
    store.supervisor.kill(container_id, "hup")
    assert store.supervisor.wait(container_id) == 3
    with pytest.raises(WrongState, match="is not running"):
        store.supervisor.kill(container_id, "9")
    assert signals.signal_number("SIGRTMIN+3") == signal.SIGRTMIN + 3


def test_init_reaps_and_passes_signals_on(store):
    container_id = store.create(
        "sh", "-c", "trap 'exit 4' TERM; echo $$; echo up; while :; do sleep 0.05; done", init=True, network="none"
    )
    store.supervisor.start(container_id)
    line_of_log(store, container_id, "up")
    assert store.supervisor.stop(container_id, seconds=20) == 4


def test_shared_namespaces(store):
    first = store.create(*LOOP, network="none", hostname="first")
    store.supervisor.start(first)
    inside = store.run(
        "sh",
        "-c",
        "readlink /proc/self/ns/net; ls /proc | grep -c '^[0-9]'",
        network=f"container:{first}",
        pid=f"container:{first}",
    )
    pid = store.supervisor.find(first).state.pid
    assert inside.out.splitlines()[0] == os.readlink(f"/proc/{pid}/ns/net")
    assert int(inside.out.splitlines()[1]) >= 3
    with pytest.raises(NoSuchContainer):
        store.run("true", network="container:nothing")


def test_out_of_memory_is_noted(store):
    done = store.run("sh", "-c", "tail /dev/zero", memory=16 << 20, memory_swap=16 << 20, network="none")
    assert done.code == 137
    assert store.supervisor.find(done.id).state.oom_killed


def test_limits_reach_the_container(store):
    done = store.run("sh", "-c", "ulimit -n; cat /proc/sys/kernel/shmmax >/dev/null; df /dev/shm | tail -1; cat /proc/self/oom_score_adj",
                     network="none", shm_size=1 << 20, oom_score_adj=500)  # fmt: skip
    assert "1024 " in done.out
    assert done.out.endswith("500\n")


def test_two_starts_at_once_start_it_once(store):
    container_id = store.create(*LOOP, network="none")
    pids = []
    threads = [
        threading.Thread(target=lambda: pids.append(store.supervisor.start(container_id)[0].state.pid))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 4
    assert len(set(pids)) == 1


# -- restart policies (S20) ------------------------------------------------------------------------------------------


def test_on_failure_restarts_so_many_times(store):
    container_id = store.create("sh", "-c", "echo run >>/data/runs; exit 3", restart=RestartPolicy("on-failure", 2), network="none",
                                mounts=(parse_volume("counted:/data"),))  # fmt: skip
    store.supervisor.start(container_id)
    runs = Path(store.paths.volumes) / "counted/_data/runs"
    with inotify.Watch() as watch:
        watch.add(str(runs.parent), inotify.MODIFY | inotify.CREATE)
        while not (runs.exists() and runs.read_text().count("run") == 3):
            assert watch.wait(30)
    with locks.holding(store.paths.run_root, container_id):
        pass  # who restarts it notes that it runs a moment after it does
    assert store.supervisor.wait(container_id) == 3
    state = store.supervisor.find(container_id).state
    assert (state.status, state.restart_count) == ("exited", 2)
    assert runs.read_text() == "run\n" * 3


def test_always_restarts_until_stopped(store):
    container_id = store.create(*LOOP, restart=RestartPolicy("always"), network="none")
    store.supervisor.start(container_id)
    first = store.supervisor.find(container_id).state.pid
    line_of_log(store, container_id, "up")
    with inotify.Watch() as watch:
        watch.add(os.path.dirname(store.paths.log(container_id)), inotify.MODIFY)
        store.supervisor.kill(container_id)
        while Path(store.paths.log(container_id)).read_text().count(" up\n") < 2:
            assert watch.wait(30)
    with locks.holding(store.paths.run_root, container_id):
        state = store.supervisor.containers.find(container_id).state
    assert state.status == "running"
    assert state.pid != first
    assert store.supervisor.stop(container_id, seconds=20) == 7
    assert store.supervisor.find(container_id).state.status == "exited"


def test_a_reboot_brings_back_what_should_run(store):
    """Processes killed, the run root and all mounts gone: what a reboot leaves."""
    policies: tuple[RestartName, ...] = ("no", "always", "unless-stopped", "on-failure")
    running = {name: store.create(*LOOP, name=name, restart=RestartPolicy(name), network="none") for name in policies}
    stopped = {
        name: store.create(*LOOP, name=f"{name}-stopped", restart=RestartPolicy(name), network="none")
        for name in ("always", "unless-stopped")
    }
    store.create("true", name="never-ran", restart=RestartPolicy("always"), network="none")
    for container_id in (*running.values(), *stopped.values()):
        store.supervisor.start(container_id)
    for container_id in stopped.values():
        store.supervisor.stop(container_id, seconds=0)
    for container_id in running.values():
        state = store.supervisor.containers.find(container_id).state
        for stamp in (state.conmon, state.process):
            fd = os.pidfd_open(int(stamp.split()[0]))
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            select.select([fd], [], [], 30)
            os.close(fd)
    for point in reversed(mounts.mount_points(store.paths.root)):
        mounts.Unmount(point, detach=True).execute()
    shutil.rmtree(store.paths.run_root)
    os.mkdir(store.paths.run_root)
    revived = reviving.revive(store.supervisor, store.warnings.append)
    assert set(revived) == {running["always"], running["unless-stopped"], running["on-failure"], stopped["always"]}
    assert store.supervisor.find("no").state.exit_code == 137
    assert store.supervisor.find("always").state.status == "running"
    assert reviving.revive(store.supervisor, store.warnings.append) == []
    store.supervisor.start("no")  # with its end, the last of the control groups goes that no reboot emptied


@pytest.mark.parametrize(
    ("text", "code", "restarts", "stopped", "wanted"),
    [
        ("no", 1, 0, False, False),
        ("always", 0, 99, False, True),
        ("always", 0, 0, True, False),
        ("unless-stopped", 1, 5, False, True),
        ("on-failure", 0, 0, False, False),
        ("on-failure", 1, 1000, False, True),
        ("on-failure:3", 1, 2, False, True),
        ("on-failure:3", 1, 3, False, False),
    ],
)
def test_policies(text, code, restarts, stopped, wanted):
    assert RestartPolicy.parse(text).wants_restart(code, restarts, stopped_by_user=stopped) is wanted


@pytest.mark.parametrize("text", ["sometimes", "always:3", "on-failure:x", "no:1"])
def test_policies_that_make_no_sense(text):
    with pytest.raises(Invalid, match="invalid restart policy"):
        RestartPolicy.parse(text)


# -- mounts and volumes (S58, C54) -----------------------------------------------------------------------------------


def test_a_new_volume_is_seeded_with_owners(store):  # S58
    volume = parse_volume("things:/data")
    done = store.run(
        "sh", "-c", "cat /data/seed; stat -c %u:%g /data/seed; echo more >/data/more", mounts=(volume,), network="none"
    )
    assert done.out == "from the image\n33:33\n"
    again = store.run("ls", "/mnt", mounts=(parse_volume("things:/mnt:ro"),), network="none")
    assert again.out == "more\nseed\n"
    store.supervisor.remove(done.id, volumes=True)
    assert [volume.name for volume in store.supervisor.volumes.all()] == ["things"]


def test_image_volumes_are_anonymous_and_go_with_the_container(store):  # S58
    image = RunConfig(volumes=("/data", "/new"))
    container_id = store.create("ls", "/data", image=image, network="none")
    assert store.attach(container_id).out == "seed\n"
    names = [volume.name for volume in store.supervisor.volumes.all()]
    assert [len(name) for name in names] == [64, 64]
    store.supervisor.remove(container_id, volumes=True)
    assert store.supervisor.volumes.all() == []


@pytest.mark.parametrize("path", ["/proc/self", "/", "/../..", "relative"])
def test_volumes_that_lead_out_are_refused(store, path):  # threat 16
    with pytest.raises(InvalidMount):
        store.create("true", image=RunConfig(volumes=(path,)))


def test_volume_that_climbs_stays_inside(store):  # threat 16
    image = RunConfig(volumes=("/../../etc/inside",))
    done = store.attach(store.create("ls", "-d", "/etc/inside", image=image, network="none"))
    assert done.out == "/etc/inside\n"
    assert not os.path.exists("/etc/inside")


def test_binds_and_tmpfs(store, tmp_path):
    source = tmp_path / "made by -v"
    mounts = (
        parse_volume(f"{source}:/b"),
        parse_tmpfs("/t:size=64k,mode=700"),
        parse_mount(f"type=bind,source={tmp_path},target=/r,readonly"),
    )
    done = store.run(
        "sh",
        "-c",
        "echo x >/b/f; stat -c %a /t; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2; touch /r/x",
        mounts=mounts,
        network="none",
    )
    assert done.out == "700\n64\n"
    assert "Read-only file system" in done.err
    assert (source / "f").read_text() == "x\n"
    with pytest.raises(InvalidMount, match="bind source path does not exist: /nope"):
        store.create("true", mounts=(parse_mount("type=bind,src=/nope,dst=/x"),))


def test_volumes_from_another_container(store):
    first = store.create("true", mounts=(parse_volume("shared:/data"),), network="none")
    store.attach(first)
    done = store.run("sh", "-c", "cat /data/seed; touch /data/x", volumes_from=(f"{first}:ro",), network="none")
    assert done.out == "from the image\n"
    assert "Read-only" in done.err


# -- crashes (F22) ---------------------------------------------------------------------------------------------------


def test_a_killed_conmon_does_not_take_the_container_along(store):
    container_id = store.create(*LOOP, network="none")
    store.supervisor.start(container_id)
    state = store.supervisor.find(container_id).state
    watcher = int(state.conmon.split()[0])
    fd = os.pidfd_open(watcher)
    os.kill(watcher, signal.SIGKILL)
    import select

    select.select([fd], [], [], 30)
    os.close(fd)
    assert store.supervisor.find(container_id).state.status == "running"
    store.supervisor.kill(container_id)
    assert store.supervisor.wait(container_id) == 137
    assert store.supervisor.find(container_id).state.status == "exited"


def test_a_killed_client_leaves_the_container_running(store):
    container_id = store.create(*LOOP, network="none")
    program = textwrap.dedent(
        f"""
        import os, sys
        from lamina.runtime.paths import RuntimePaths
        from lamina.runtime.supervisor import Supervisor
        from lamina.runtime import attach
        from lamina.store.db import Database
        paths = RuntimePaths({store.paths.root!r}, {store.paths.run_root!r}, {store.paths.database!r})
        _, connection = Supervisor(paths, Database(paths.database)).start({container_id!r}, attach=True)
        attach.pump(connection, stdin=None, stdout=1, stderr=2)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        child.send_signal(signal.SIGKILL)
    assert store.supervisor.find(container_id).state.status == "running"
    assert store.supervisor.stop(container_id, seconds=20) == 7


def test_a_machine_that_was_switched_off(store):
    """After a reboot the run root is empty and no process is left; the index still says running."""
    container_id = store.create(*LOOP)
    store.supervisor.start(container_id)
    state = store.supervisor.find(container_id).state
    for stamp in (state.conmon, state.process):
        pid = int(stamp.split()[0])
        fd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        import select

        select.select([fd], [], [], 30)
        os.close(fd)
    state = store.supervisor.find(container_id).state
    assert (state.status, state.exit_code, state.endpoint) == ("exited", 137, None)
    with store.database.read() as connection:
        assert connection.execute("SELECT count(*) FROM endpoints").fetchone() == (0,)


def test_restart_needs_no_user_environment(store, monkeypatch):  # threat 38
    monkeypatch.setenv("LAMINA_CANARY", "leaked")
    container_id = store.create(*LOOP, network="none")
    store.supervisor.start(container_id)
    state = store.supervisor.find(container_id).state
    for stamp in (state.conmon, state.process):
        assert b"LAMINA_CANARY" not in Path(f"/proc/{stamp.split()[0]}/environ").read_bytes()


def test_options_survive_the_index():
    options = ContainerOptions(
        command=("a", "b"), env=("A=1",), restart=RestartPolicy("on-failure", 3), mounts=(parse_volume("vol:/x:ro"),),
        extra_hosts=(("db", "10.0.0.1"),), labels={"a": "b"}, memory=5, tty=True,
    )  # fmt: skip
    assert ContainerOptions.from_json(options.to_json()) == options
    assert ContainerOptions().to_json() == {}


# -- mount points ----------------------------------------------------------------------------------------------------


def test_mount_points_that_the_image_lacks_go_with_the_run(store, busybox_layer):  # S24
    container_id = store.create("sh", "-c", "echo mine >/root/made; exec sleep 1000")
    record = store.supervisor.containers.find(container_id)
    upper = Path(record.rootfs["upper"])
    running, _ = store.supervisor.start(container_id)
    assert {"proc", "sys", "dev", "etc/hosts", "etc/hostname", "etc/resolv.conf"} <= store.supervisor.stubs(running)
    store.supervisor.stop(container_id, seconds=0)
    assert store.supervisor.stubs(running) == frozenset()
    left = sorted(str(path.relative_to(upper)) for path in upper.rglob("*"))
    assert [path for path in left if path not in {"etc", "root", "root/made"}] == []
    with store.supervisor.file_system(container_id) as (_record, root):
        assert os.stat(f"{root}/etc").st_mtime_ns == os.stat(busybox_layer / "etc").st_mtime_ns


def test_a_mount_point_that_was_filled_stays(tmp_path):
    stubs = rootfs.missing_stubs(str(tmp_path), ["/var/cache", "/etc/hosts", "/kept"])
    for name in ("var/cache", "etc", "kept"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/hosts").touch()
    (tmp_path / "kept/file").write_text("something")
    rootfs.note_stubs(str(tmp_path / "noted"), stubs)
    noted = rootfs.noted_stubs(str(tmp_path / "noted"))
    assert noted == stubs
    assert rootfs.standing_stubs(str(tmp_path), noted) == {"var", "var/cache", "etc", "etc/hosts"}
    rootfs.remove_stubs(str(tmp_path), noted)
    assert sorted(os.listdir(tmp_path)) == ["kept", "noted"]


def test_only_the_users_annotations_reach_the_runtime(store):  # crun obeys run.oci.*
    image = RunConfig(labels={"run.oci.hooks.stdout": "/evil", "from": "image"})
    chosen = ContainerOptions(command=("sleep", "1000"), annotations={"mine": "1"}, labels={"l": "1"}, network="none")
    container_id = store.create(image=image, options=chosen)
    store.supervisor.start(container_id)
    bundle = json.loads(Path(store.paths.run(container_id), "config.json").read_text())
    assert bundle["annotations"] == {"mine": "1"}
