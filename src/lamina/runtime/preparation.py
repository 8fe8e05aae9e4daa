"""From a container's record to what the runtime needs: volumes found or made, files of /etc written, ids resolved."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from lamina.errors import Invalid, Unsupported
from lamina.runtime import config, etcfiles, oci, rootfs, users
from lamina.runtime import host as host_module
from lamina.runtime.bundle import ContainerSpec, Device, NamespaceName, OciMount
from lamina.runtime.config import ContainerOptions
from lamina.runtime.mount_spec import InvalidMount, MountSpec, parse_volume
from lamina.runtime.resources import Throttle, ThrottleName
from lamina.runtime.state import ContainerRecord, WrongState
from lamina.runtime.volumes import Volumes
from lamina.spec.config import RunConfig
from lamina.spec.document import Node
from lamina.values import replace

if TYPE_CHECKING:
    from lamina.runtime.network.bridge import Endpoint

_INITS: Final = ("catatonit", "docker-init", "tini")
_INIT_PLACES: Final = ("/usr/libexec/podman", "/usr/libexec/docker", "/usr/bin", "/usr/local/bin")


class NoInit(Unsupported):
    """`--init` without a program for it on this machine."""

    hint = "install catatonit"

    def __init__(self) -> None:
        super().__init__("--init needs catatonit, docker-init or tini, and none is installed")


def image_config_of(record: ContainerRecord) -> RunConfig:
    """The image's run configuration, as the record keeps it."""
    return RunConfig.from_node(Node(dict(record.image_config), "image configuration"))


def resolve_mounts(
    image: RunConfig, options: ContainerOptions, volumes: Volumes, inherited: Sequence[Mapping[str, Any]] = ()
) -> tuple[dict[str, Any], ...]:
    """All mounts of a new container as documents; volumes that do not exist yet are made.

    The user's mounts win over `--volumes-from`, and these over the image's VOLUMEs. Each document is a MountSpec's,
    plus `path` (host directory) and `anonymous` for volumes.

    Raises:
        InvalidMount: a target twice, a VOLUME outside the container's file system (threat 16), a missing bind source.
    """
    by_target: dict[str, dict[str, Any]] = {}
    for path in image.volumes:
        target = parse_volume(path).target
        by_target[target] = {"type": "volume", "target": target}
    for doc in inherited:
        by_target[doc["target"]] = dict(doc)
    seen: set[str] = set()
    for mount in options.mounts:
        if mount.target in seen:
            raise InvalidMount(f"Duplicate mount point: {mount.target}", mount.target)
        seen.add(mount.target)
        by_target[mount.target] = mount.to_json()
    result = []
    for doc in by_target.values():
        if doc["type"] == "volume" and "path" not in doc:
            mount = MountSpec.from_json(doc)
            volume = volumes.create(
                mount.source,
                labels=mount.labels,
                driver=mount.driver,
                options=mount.driver_options,
                pending=not mount.source,
            )
            doc = {**doc, "source": volume.name, "path": volume.path, "anonymous": not mount.source}
        elif doc["type"] == "bind":
            _check_bind(MountSpec.from_json(doc))
        elif doc["type"] == "image":
            raise Unsupported("mounts of type image have to be turned into binds before the container is created")
        result.append(doc)
    return tuple(result)


def _check_bind(mount: MountSpec) -> None:
    if os.path.exists(mount.source):
        return
    if not mount.create_source:
        raise InvalidMount(
            f'invalid mount config for type "bind": bind source path does not exist: {mount.source}', mount.source
        )
    try:
        os.makedirs(mount.source, mode=0o755, exist_ok=True)
    except OSError as error:
        raise InvalidMount(
            f"error while creating mount source path '{mount.source}': mkdir {mount.source}: {error.strerror}",
            mount.source,
        ) from None


def _check_propagation(mount: MountSpec) -> None:
    """What is mounted inside can be seen outside, or the other way, only where the host's mount takes part."""
    kind = mount.propagation.removeprefix("r")
    if kind not in {"shared", "slave"}:
        return
    from lamina.linux.mounts import mount_of

    path = os.path.realpath(mount.source)
    point, peers = mount_of(path)
    if "shared:" in peers or (kind == "slave" and "master:" in peers):
        return
    wanted = "shared" if kind == "shared" else "shared or slave"
    raise InvalidMount(f"path {mount.source} is mounted on {point} but it is not a {wanted} mount", mount.source)


def oci_mounts(record: ContainerRecord, root: str, volumes: Volumes) -> list[OciMount]:
    """The record's mounts for the bundle; new volumes are seeded from the mounted image (S58).

    Raises:
        InvalidMount: a subpath that is not there.
        VolumeNotMounted: the kernel refuses what a volume stands for.
    """
    result = []
    for doc in record.mounts:
        extra = {key: value for key, value in doc.items() if key not in {"path", "anonymous"}}
        mount = MountSpec.from_json(extra)
        access = "ro" if mount.readonly else "rw"
        if mount.type == "tmpfs":
            options = [
                "nosuid",
                "nodev",
                access,
                f"mode={mount.tmpfs_mode if mount.tmpfs_mode is not None else 0o1777:o}",
            ]
            if not mount.tmpfs_exec:
                options.append("noexec")
            if mount.tmpfs_size is not None:
                options.append(f"size={mount.tmpfs_size}")
            options += mount.tmpfs_options
            result.append(OciMount(mount.target, "tmpfs", "tmpfs", tuple(options)))
            continue
        if mount.type == "volume":
            volumes.acquire(mount.source, record.id)
            if not mount.nocopy and not mount.readonly and not mount.subpath:
                kept = not (record.throwaway and doc.get("anonymous"))
                volumes.seed(mount.source, root, mount.target, durable=kept)
            source = _inside(doc["path"], mount.subpath)
        else:
            _check_bind(mount)
            _check_propagation(mount)
            source = _inside(mount.source, mount.subpath)
        kind = "rbind" if mount.recursive else "bind"
        result.append(OciMount(mount.target, source, "bind", (kind, access, mount.propagation or "rprivate")))
    return result


def _inside(base: str, subpath: str) -> str:
    if not subpath:
        return base
    with rootfs.opened(base) as base_fd:
        try:
            fd = rootfs.open_path(base_fd, subpath)
        except OSError as error:
            raise InvalidMount(f"failed to open subpath {subpath!r}: {error.strerror}", subpath) from None
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)


def etc_mounts(
    record: ContainerRecord, options: ContainerOptions, directory: str, endpoint: Endpoint | None, *, shared: str = ""
) -> list[OciMount]:
    """Writes /etc/hosts, hostname and resolv.conf of a container and gives their mounts.

    Args:
        record: whose.
        options: its.
        directory: where the files are kept.
        endpoint: its place in a network, or None.
        shared: directory of the container whose network it shares, or "".
    """
    hostname = config.hostname_of(record.id, options)
    own = options.network != "host"
    if not own and not options.hostname:
        hostname = os.uname().nodename
    names = [f"{hostname}.{options.domainname}", hostname] if options.domainname else [hostname]
    gateway = str(endpoint.gateway) if endpoint else "127.0.0.1"
    extra = [(name, gateway if address == "host-gateway" else address) for name, address in options.extra_hosts]
    addresses = [str(endpoint.address.ip)] if endpoint else []
    contents = {
        "hosts": _host_file("/etc/hosts") + "".join(f"{address}\t{name}\n" for name, address in extra)
        if not own
        else etcfiles.hosts(names, addresses, extra),
        "hostname": hostname + "\n",
        "resolv.conf": etcfiles.resolv_conf(
            _host_file("/etc/resolv.conf"),
            nameservers=options.dns,
            search=options.dns_search,
            options=options.dns_options,
            own_network=own,
        ),
    }
    os.makedirs(directory, mode=0o710, exist_ok=True)
    result = []
    taken = {doc["target"] for doc in record.mounts}
    for name, text in contents.items():
        path = os.path.join(shared or directory, name)
        if not shared:
            # Written in place: a running container has the file mounted, a new one would not reach it.
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o644)
        if f"/etc/{name}" not in taken:
            access = "ro" if options.read_only else "rw"
            result.append(OciMount(f"/etc/{name}", path, "bind", ("rbind", access, "rprivate")))
    return result


def _host_file(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def init_path() -> str:
    """A program that reaps zombies as pid 1.

    Raises:
        NoInit: none is installed.
    """
    for name in _INITS:
        for place in _INIT_PLACES:
            path = os.path.join(place, name)
            if os.access(path, os.X_OK):
                return path
        found = oci.find_program(name)
        if found:
            return found
    raise NoInit


def resolve_devices(requests: Sequence[str]) -> list[Device]:
    """`--device` values, `host[:container[:rwm]]`; a directory gives all devices in it.

    Raises:
        Invalid: in Docker's words.
    """
    result = []
    for request in requests:
        host, _, rest = request.partition(":")
        inside, _, access = rest.partition(":")
        if inside and not access and not inside.startswith("/"):
            inside, access = "", inside
        inside, access = inside or host, access or "rwm"
        if not set(access) <= set("rwm"):
            raise Invalid(f"invalid device specification: {request}")
        real = os.path.realpath(host)
        try:
            mode = os.stat(real).st_mode
        except OSError as error:
            message = (error.strerror or "").lower()
            raise Invalid(
                f'error gathering device information while adding custom device "{host}": {message}'
            ) from None
        if stat.S_ISDIR(mode):
            result += [
                Device(device, inside + device.path[len(real) :], access) for device in host_module.devices(real)
            ]
            continue
        device = host_module.device_at(real)
        if device is None:
            raise Invalid(f'error gathering device information while adding custom device "{host}": not a device node')
        result.append(Device(device, inside, access))
    return result


def _throttle(name: str, path: str, rate: int) -> Throttle:
    try:
        number = os.stat(path).st_rdev
    except OSError as error:
        raise Invalid(f"stat {path}: {(error.strerror or str(error)).lower()}") from None
    return Throttle(cast(ThrottleName, name), os.major(number), os.minor(number), rate)


def namespaces_of(options: ContainerOptions, pid_of: Callable[[str], int]) -> dict[NamespaceName, str]:
    """Modes of pid, ipc and uts, with other containers' namespaces as paths."""
    result: dict[NamespaceName, str] = {}
    asked: tuple[tuple[NamespaceName, str], ...] = (("pid", options.pid), ("ipc", options.ipc), ("uts", options.uts))
    for name, mode in asked:
        if mode.startswith("container:"):
            result[name] = f"/proc/{pid_of(mode.partition(':')[2])}/ns/{name}"
        elif mode == "host":
            result[name] = "host"
        elif mode not in {"", "private", "shareable", "none"}:
            raise Invalid(f"--{name}: invalid {name.upper()} mode")
    return result


def container_spec(
    record: ContainerRecord,
    root: str,
    network: str,
    mounts: Sequence[OciMount],
    pid_of: Callable[[str], int],
) -> ContainerSpec:
    """The container's bundle as a value: user and working directory resolved in the mounted root file system.

    Raises:
        NoSuchUser, UnsafeUserDatabase, UnsafePath, NoCommand, NoInit, Invalid: what the image or the user got wrong.
    """
    options = ContainerOptions.from_json(record.options)
    image = image_config_of(record)
    user = users.resolve(root, options.user or image.user, options.group_add)
    cwd = rootfs.prepare_workdir(root, config.workdir_of(image, options), uid=user.uid, gid=user.gid)
    spec = config.container_spec(
        image,
        options,
        container_id=record.id,
        rootfs=os.path.realpath(root),
        user=user,
        cwd=cwd,
        network=network,
        namespaces=namespaces_of(options, pid_of),
        mounts=mounts,
        devices=resolve_devices(options.devices),
        throttles=[_throttle(name, path, rate) for name, path, rate in options.device_rates],
        init_path=init_path() if options.init else "",
    )
    if options.network == "host" and not options.hostname:
        hostname = os.uname().nodename
        env = tuple(f"HOSTNAME={hostname}" if entry.startswith("HOSTNAME=") else entry for entry in spec.env)
        spec = replace(spec, hostname=hostname, env=env)
    return spec


def running_pid(record: ContainerRecord) -> int:
    """The pid of a running container.

    Raises:
        WrongState: it does not run.
    """
    if not record.state.running:
        raise WrongState(f"container {record.id} is not running", record.id, record.state.status)
    return record.state.pid
