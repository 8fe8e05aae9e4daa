"""Runs one command in a root file system and waits for it: what a build's RUN step needs.

No conmon: the runtime itself stays in the foreground, its pipes are ours, and when the command ends nothing is left.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Any, Final, Literal, Protocol

from lamina.errors import Cancelled, Invalid, LaminaError
from lamina.linux import mounts
from lamina.runtime import etcfiles, oci, privilege, process, rootfs, seccomp_cache, users
from lamina.runtime import host as host_module
from lamina.runtime.bundle import (
    DEFAULT_PATH,
    DEFAULT_SHM,
    ContainerSpec,
    OciMount,
    Rlimit,
    mount_targets,
    oci_spec,
)
from lamina.runtime.host import HostFacts
from lamina.runtime.resources import Resources
from lamina.values import dataclass, field

Stream = Literal["stdout", "stderr"]
OutputSink = Callable[[Stream, bytes], None]
_CHUNK: Final = 1 << 16
_LOOK_AT_CANCEL: Final = 0.1  # seconds between looks at the cancel event
_END_SECONDS: Final = 30.0


class ExecutionCancelled(Cancelled):
    """The caller gave up; the command and all its children were killed."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A network that a command may join.

    Attributes:
        namespace: path of the network namespace.
        address: the command's own IPv4 address, or "".
    """

    namespace: str
    address: str = ""


class NetworkProvider(Protocol):
    """Gives bridged networks to commands; several commands may hold one each at the same time."""

    def lease(self) -> AbstractContextManager[Attachment]:
        """A network namespace for the time of the context."""


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """One command to run.

    Attributes:
        rootfs: the mounted root file system on the host.
        argv: the command; found through PATH inside.
        env: `NAME=value`; PATH and HOME are added when missing.
        cwd: absolute; made when missing.
        user: as `USER` has it, resolved in `rootfs`.
        hostname: inside.
        network: `default` (bridged, NAT), `host` or `none`.
        mounts: further mounts: caches, secrets, binds.
        extra_hosts: `(name, address)` for /etc/hosts.
        privileged: `--security=insecure`.
        cap_add: capabilities beyond Docker's default.
        cap_drop: and without these.
        readonly: refuse writes to the root file system.
        shm_size: bytes of /dev/shm.
        rlimits: clamped to the host's.
        resources: cgroup limits.
        dns: name servers instead of the host's.
        dns_search: search domains instead of the host's.
        dns_options: resolver options instead of the host's.
    """

    rootfs: str
    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = "buildkitsandbox"
    network: Literal["default", "host", "none"] = "default"
    mounts: tuple[OciMount, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    readonly: bool = False
    shm_size: int = DEFAULT_SHM
    rlimits: tuple[Rlimit, ...] = ()
    resources: Resources = field(default_factory=Resources)
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()


class Executor:
    """Runs commands one by one or many at once; thread-safe.

    Args:
        run_root: directory for bundles and runtime state, emptied by a reboot (e.g. below /run).
        network: provider for `default` networks; without one such requests are refused.
        runtime: name or path of the OCI runtime; "" chooses one that works here.
        host: the machine's facts; probed when not given.
        warn: told, in one line each, what the machine does not allow.
    """

    def __init__(
        self,
        run_root: str | os.PathLike[str],
        *,
        network: NetworkProvider | None = None,
        runtime: str = "",
        host: HostFacts | None = None,
        warn: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self._run_root = os.path.abspath(run_root)
        self._network = network
        self._wanted = runtime
        self._warn = warn
        self._host = host
        self._runtime: oci.Runtime | None = None
        self._lock = threading.Lock()

    def run(
        self,
        request: ExecRequest,
        on_output: OutputSink,
        *,
        stdin: bytes | IO[bytes] | None = None,
        cancel: threading.Event | None = None,
    ) -> int:
        """Runs the command to its end.

        Args:
            request: what to run.
            on_output: gets every piece of output, in order per stream, on the calling thread.
            stdin: bytes, or a file with a descriptor; None is an empty input.
            cancel: set it to kill the command.

        Returns:
            The exit code, 128 + n after signal n.

        Raises:
            ExecutionCancelled: `cancel` was set.
            CommandNotFound, CommandNotExecutable, StartRefused: the command did not start.
            UnsafePath, NoSuchUser, UnsafeUserDatabase: the image forbids it.
            NoSuchRuntime, RuntimeTooOld, RuntimeNotUsable: no runtime.
            NoPrivilege: this user cannot run containers.
        """
        privilege.require()
        host, runtime = self._ready()
        with self._attachment(request) as attachment:
            container_id = f"lamina-{secrets.token_hex(8)}"
            bundle = os.path.join(self._run_root, "exec", container_id)
            os.makedirs(bundle, mode=0o700)
            try:
                with open(os.path.join(bundle, "owner"), "w", encoding="ascii") as file:
                    file.write(process.stamp())
                container = self._container(container_id, bundle, request, attachment)
                devices = host_module.devices() if request.privileged else []
                spec = oci_spec(container, host, host_devices=devices, warn=self._warn)
                with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as file:
                    file.write(json.dumps(seccomp_cache.applied(self._run_root, runtime, spec)))
                stubs = rootfs.missing_stubs(request.rootfs, mount_targets(container, host))
                here = runtime.hiding(_foreign_mounts(request, attachment)) if runtime.hidden else runtime
                try:
                    return _foreground(
                        here,
                        container_id,
                        bundle,
                        request.argv[0],
                        on_output,
                        stdin,
                        cancel,
                        started=lambda: seccomp_cache.remember(self._run_root, runtime, container_id, spec),
                    )
                finally:
                    rootfs.remove_stubs(request.rootfs, stubs)
            finally:
                shutil.rmtree(bundle, ignore_errors=True)

    def sweep(self) -> int:
        """Kills and removes what commands of dead processes left behind; returns how many there were (F22)."""
        base = os.path.join(self._run_root, "exec")
        swept = 0
        for name in os.listdir(base) if os.path.isdir(base) else ():
            bundle = os.path.join(base, name)
            try:
                with open(os.path.join(bundle, "owner"), encoding="ascii") as file:
                    owner = file.read()
            except OSError:
                continue  # being made, or being removed
            if owner and not process.alive(owner):
                _, runtime = self._ready_runtime()
                _delete(runtime, name)
                shutil.rmtree(bundle, ignore_errors=True)
                swept += 1
        return swept

    def _ready(self) -> tuple[HostFacts, oci.Runtime]:
        with self._lock:
            first = self._runtime is None
        ready = self._ready_runtime()
        if first:
            self.sweep()
        return ready

    def _ready_runtime(self) -> tuple[HostFacts, oci.Runtime]:
        with self._lock:
            if self._host is None:
                self._host = host_module.probe()
            if self._runtime is None:
                self._runtime = oci.choose(self._run_root, self._wanted, cgroups=self._host.cgroups)
            return self._host, self._runtime

    def _attachment(self, request: ExecRequest) -> AbstractContextManager[Attachment]:
        if request.network in {"host", "none"}:
            return nullcontext(Attachment(request.network))
        if self._network is None:
            raise Invalid("this executor has no bridged network; use network host or none")
        return self._network.lease()

    def _container(self, container_id: str, bundle: str, request: ExecRequest, attachment: Attachment) -> ContainerSpec:
        user = users.resolve(request.rootfs, request.user)
        cwd = rootfs.prepare_workdir(request.rootfs, request.cwd)
        env = list(request.env)
        names = {entry.partition("=")[0] for entry in env}
        if "PATH" not in names:
            env.insert(0, DEFAULT_PATH)
        if "HOME" not in names:
            env.append(f"HOME={user.home}")
        return ContainerSpec(
            id=container_id,
            rootfs=os.path.realpath(request.rootfs),
            argv=request.argv,
            env=tuple(env),
            cwd=cwd,
            user=user,
            hostname=request.hostname,
            readonly=request.readonly,
            mounts=(*_etc_mounts(bundle, request, attachment), *request.mounts),
            cap_add=request.cap_add,
            cap_drop=request.cap_drop,
            privileged=request.privileged,
            rlimits=request.rlimits,
            resources=request.resources,
            network=attachment.namespace,
            shm_size=request.shm_size,
        )


def _etc_mounts(bundle: str, request: ExecRequest, attachment: Attachment) -> list[OciMount]:
    own = request.network != "host"
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            host_resolv = file.read()
    except OSError:
        host_resolv = ""
    addresses = [attachment.address] if attachment.address else []
    contents: Mapping[str, str] = {
        "resolv.conf": etcfiles.resolv_conf(
            host_resolv,
            nameservers=request.dns,
            search=request.dns_search,
            options=request.dns_options,
            own_network=own,
        ),
        "hosts": etcfiles.hosts([request.hostname], addresses, request.extra_hosts),
    }
    taken = {mount.destination for mount in request.mounts}
    result = []
    for name, text in contents.items():
        if f"/etc/{name}" in taken:
            continue
        path = os.path.join(bundle, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o644)
        result.append(OciMount(f"/etc/{name}", path, "bind", ("rbind", "ro", "rprivate")))
    return result


def _foreign_mounts(request: ExecRequest, attachment: Attachment) -> list[str]:
    """Root file systems and networks of others, which must not live on for as long as this command runs."""
    wanted = [os.path.realpath(request.rootfs), attachment.namespace]
    wanted += [os.path.realpath(mount.source) for mount in request.mounts if mount.source.startswith("/")]
    return [
        point
        for point in mounts.mount_points(types=("overlay", "nsfs"))
        if point != "/" and not any(path == point or path.startswith(point + "/") for path in wanted)
    ]


def _foreground(
    runtime: oci.Runtime,
    container_id: str,
    bundle: str,
    command: str,
    on_output: OutputSink,
    stdin: bytes | IO[bytes] | None,
    cancel: threading.Event | None,
    *,
    started: Callable[[], None],
) -> int:
    log = os.path.join(bundle, "log.json")
    argv = runtime.argv("--log", log, "--log-format", "json", "run", "--bundle", bundle, container_id)
    source: Any = subprocess.PIPE if isinstance(stdin, bytes) and stdin else stdin or subprocess.DEVNULL
    try:
        child = subprocess.Popen(
            argv,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=oci.CLEAN_ENV,
            cwd="/",
            # Its own session: a Ctrl-C at the terminal reaches the container through us only, in order.
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise oci.NoSuchRuntime(f"{runtime.path}: {error.strerror}") from None
    sink = _Withholding(runtime.name, on_output, started)
    try:
        _pump(child, stdin if isinstance(stdin, bytes) else b"", sink, cancel)
        code = child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        _stop(runtime, container_id, child)
        raise oci.RuntimeTimeout(runtime.name, _END_SECONDS) from None
    except BaseException:
        _stop(runtime, container_id, child)
        raise
    finally:
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
    if code != 0:
        try:
            with open(log, encoding="utf-8", errors="replace") as file:
                said = oci.last_words(file.read(1 << 16))
        except OSError:
            said = ""
        if code < 0 or said:
            _delete(runtime, container_id)
        if said:
            raise oci.start_error(said, command)
    sink.flush()
    return code if code >= 0 else 128 - code


# How the runtimes' own complaints begin. crun's child, which has lost the log, writes JSON.
_COMPLAINTS: Final = {
    "runc": (b"runc run failed: ",),
    "crun": (b"executable file `", b"open executable: ", b'{"msg":"'),
}
_EXEC_FAILED: Final = "exec container process "


class _Withholding:
    """A sink that keeps back the runtime's own complaint, which it prints where the command's errors go.

    It is known to be one only when the runtime has ended: then it becomes the error, or, if a command did print
    such a line, output after all.
    """

    def __init__(self, name: str, sink: OutputSink, started: Callable[[], None]) -> None:
        self._marks = _COMPLAINTS.get(name, ())
        self._sink = sink
        self._held: list[bytes] = []
        self._started: Callable[[], None] | None = started

    def __call__(self, stream: Stream, piece: bytes) -> None:
        if stream == "stderr" and (self._held or piece.startswith(self._marks)):
            self._held.append(piece)
            return
        if self._started is not None:
            # Whoever prints runs: the runtime has done all its work.
            self._started()
            self._started = None
        self._sink(stream, piece)

    def flush(self) -> None:
        """Passes on what was kept back; of crun's child in the words that runc has for it."""
        held, self._held = b"".join(self._held), []
        if held.startswith(b'{"msg":"' + _EXEC_FAILED.encode()):
            try:
                said = str(json.loads(held)["msg"]).removeprefix(_EXEC_FAILED)
            except (ValueError, LookupError):
                pass
            else:
                held = f"exec {said.replace('`', '')}\n".encode()
        if held:
            self._sink("stderr", held)


def _pump(child: subprocess.Popen[bytes], data: bytes, on_output: OutputSink, cancel: threading.Event | None) -> None:
    """Carries output to the sink and input to the child until both outputs are closed."""
    rest = memoryview(data)
    assert child.stdout is not None
    assert child.stderr is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ, "stdout")
        selector.register(child.stderr, selectors.EVENT_READ, "stderr")
        outputs = 2
        if child.stdin is not None and rest:
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin, selectors.EVENT_WRITE, "stdin")
        while outputs:
            ready = selector.select(_LOOK_AT_CANCEL if cancel is not None else None)
            if cancel is not None and cancel.is_set():
                raise ExecutionCancelled("the command was cancelled")
            for key, _events in ready:
                if key.data == "stdin":
                    assert child.stdin is not None
                    try:
                        rest = rest[os.write(key.fd, rest[:_CHUNK]) :]
                    except BrokenPipeError:
                        rest = rest[:0]
                    if not rest:
                        selector.unregister(child.stdin)
                        child.stdin.close()
                    continue
                piece = os.read(key.fd, _CHUNK)
                if piece:
                    on_output(key.data, piece)
                else:
                    selector.unregister(key.fileobj)
                    outputs -= 1


def _stop(runtime: oci.Runtime, container_id: str, child: subprocess.Popen[bytes]) -> None:
    """Kills the container and its runtime process, and waits for the latter."""
    _delete(runtime, container_id)
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()
    # A runtime killed while it was creating may have left a container that the first delete did not see yet.
    _delete(runtime, container_id)


def _delete(runtime: oci.Runtime, container_id: str) -> None:
    try:
        oci.call(runtime.argv("delete", "--force", container_id), seconds=_END_SECONDS)
    except LaminaError:
        pass  # gone already
