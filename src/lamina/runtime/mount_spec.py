"""What a container has mounted, and the grammars of `-v`, `--mount` and `--tmpfs` (C13, C54). Pure text to values."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from lamina.errors import Invalid
from lamina.values import dataclass, field

MountType = Literal["bind", "volume", "tmpfs", "image"]
PROPAGATIONS: Final = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_NAME: Final = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$"
_CONSISTENCY: Final = ("consistent", "cached", "delegated", "default")
_TMPFS_OPTIONS: Final = frozenset({"uid", "gid", "nr_inodes", "nr_blocks", "mpol"})
_TRUE: Final = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}


class InvalidMount(Invalid):
    """A mount that makes no sense; the message is Docker's.

    Attributes:
        value: as the user wrote it.
    """

    def __init__(self, message: str, value: str) -> None:
        super().__init__(message)
        self.value = value


class InvalidMountConfig(InvalidMount):
    """A mount whose text is well formed and that docker's daemon, not its client, refuses."""


@dataclass(frozen=True, slots=True)
class MountSpec:
    """One mount of a container.

    Attributes:
        type: bind, volume, tmpfs or image.
        target: absolute container path.
        source: host path, volume name, image, or "" (an anonymous volume, tmpfs).
        readonly: writes are refused.
        propagation: of a bind; "" is rprivate.
        recursive: a bind takes the mounts below along.
        create_source: a missing host directory is made (`-v`) rather than refused (`--mount`).
        nocopy: a new volume is not seeded from the image.
        subpath: a directory inside the volume or image.
        labels: of a volume that has to be made.
        driver: of a volume that has to be made.
        driver_options: for the driver.
        tmpfs_size: bytes, or None.
        tmpfs_mode: permission bits, or None for 01777.
        tmpfs_exec: programs may be run from it.
        tmpfs_options: further options for the kernel, such as `uid=33`.
    """

    type: MountType
    target: str
    source: str = ""
    readonly: bool = False
    propagation: str = ""
    recursive: bool = True
    create_source: bool = False
    nocopy: bool = False
    subpath: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    driver: str = ""
    driver_options: Mapping[str, str] = field(default_factory=dict)
    tmpfs_size: int | None = None
    tmpfs_mode: int | None = None
    tmpfs_exec: bool = False
    tmpfs_options: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For the store's index; fields at their default are left out."""
        result: dict[str, Any] = {"type": self.type, "target": self.target}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name not in result and value not in ("", False, None, {}, ()):
                result[name] = (
                    dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
                )
        if not self.recursive:
            result["recursive"] = False
        return result

    @classmethod
    def from_json(cls, doc: Mapping[str, Any]) -> MountSpec:
        """The inverse of `to_json`."""
        fields = dict(doc)
        if "tmpfs_options" in fields:
            fields["tmpfs_options"] = tuple(fields["tmpfs_options"])
        return cls(**fields)


def valid_volume_name(name: str) -> bool:
    """Whether Docker would take it as the name of a volume."""
    return re.match(_NAME, name) is not None


def why_not_a_name(name: str) -> str:
    """What is wrong with the name of a volume, in Docker's words."""
    if len(name) == 1:
        return "volume name is too short, names should be at least two alphanumeric characters"
    return (
        f'"{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. '
        "If you intended to pass a host directory, use absolute path"
    )


def parse_volume(value: str, cwd: str = "") -> MountSpec:
    """A `-v` value: `target`, `name:target[:options]` or `/host:target[:options]`.

    Args:
        value: as the user wrote it.
        cwd: directory that `./relative` host paths are relative to; "" refuses them.

    Raises:
        InvalidMount: in Docker's words.
    """
    parts = value.split(":")
    if len(parts) > 1 and not all(parts):
        raise InvalidMount(f"invalid spec: {value}: empty section between colons", value)
    if not value or len(parts) > 3:
        raise InvalidMount(f"invalid volume specification: '{value}'", value)
    if len(parts) == 1:
        return MountSpec("volume", _target(parts[0], value, "volume"))
    source = parts[0]
    target = _target(parts[1], value, "bind" if source.startswith(("/", ".", "~")) else "volume")
    options = parts[2].split(",") if len(parts) == 3 else []
    if source.startswith((".", "~")) and cwd:
        source = posixpath.normpath(posixpath.join(cwd, source))
    if not source.startswith("/") and not valid_volume_name(source):
        raise InvalidMount(f"create {source}: {why_not_a_name(source)}", value)
    bind = source.startswith("/")
    readonly = nocopy = False
    propagation = ""
    for option in options:
        if option in {"ro", "rw"}:
            readonly = option == "ro"
        elif bind and option in PROPAGATIONS:
            propagation = option
        elif not bind and option == "nocopy":
            nocopy = True
        elif option not in {"z", "Z", *_CONSISTENCY}:  # labels and consistency mean nothing on this system
            raise InvalidMount(f"invalid mode: {parts[2]}", value)
    if bind:
        return MountSpec(
            "bind", target, posixpath.normpath(source), readonly=readonly, propagation=propagation, create_source=True
        )
    return MountSpec("volume", target, source, readonly=readonly, nocopy=nocopy)


def _target(path: str, value: str, kind: str = "") -> str:
    """A mount's place in the container; `kind` is the type that a `-v` value stands for."""
    about = f"invalid volume specification: '{value}': invalid mount config for type \"{kind}\": " if kind else ""
    if not path.startswith("/"):
        raise InvalidMount(f"{about}invalid mount path: '{path}' mount path must be absolute", value)
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/":
        about = about or f"invalid volume specification: '{value}': "
        raise InvalidMount(f"{about}invalid specification: destination can't be '/'", value)
    if clean == "/proc" or clean.startswith("/proc/"):
        raise InvalidMount(f"invalid mount path: '{path}' is inside /proc", value)
    return clean


def parse_tmpfs(value: str) -> MountSpec:
    """A `--tmpfs` value: `target[:size=64m,mode=1777,ro,exec]`.

    Raises:
        InvalidMount: unknown or malformed options.
    """
    target, _, options = value.partition(":")
    fields: dict[str, Any] = {}
    further: list[str] = []
    for option in options.split(",") if options else []:
        key, equals, text = option.partition("=")
        if key == "size" and equals:
            fields["tmpfs_size"] = parse_size(text, value)
        elif key == "mode" and equals:
            fields["tmpfs_mode"] = _octal(text, value)
        elif option in {"ro", "rw"}:
            fields["readonly"] = option == "ro"
        elif option in {"exec", "noexec"}:
            fields["tmpfs_exec"] = option == "exec"
        elif key in _TMPFS_OPTIONS and equals:
            further.append(option)
        elif option not in {"nosuid", "nodev", "suid", "dev", "noatime", "relatime", "strictatime"}:
            words = " ".join(f'"{word}"' for word in option.split("=", 1))
            raise InvalidMount(f"invalid tmpfs option [{words}]", value)
    return MountSpec("tmpfs", _target(target, value), **fields, tmpfs_options=tuple(further))


def parse_size(text: str, value: str) -> int:
    """`64m`, `1g`, `512k`, `1024`, `2gb` as bytes.

    Raises:
        InvalidMount: not a size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", text.strip().lower())
    if found is None:
        raise InvalidMount(f"invalid size: '{text}'", value)
    return int(float(found[1]) * 1024 ** " kmgtp".index(found[2] or " "))


def _octal(text: str, value: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise InvalidMount(f"invalid value for mode: {text} (must be octal)", value) from None


def _flag(text: str | None, key: str, value: str) -> bool:
    if text is None:
        return True
    try:
        return _TRUE[text.lower()]
    except KeyError:
        raise InvalidMount(f"invalid value for {key}: {text}", value) from None


def parse_mount(value: str) -> MountSpec:
    """A `--mount` value: comma-separated `key=value` fields, quoted as in CSV.

    Raises:
        InvalidMount: in Docker's words.
    """
    fields: dict[str, Any] = {}
    labels: dict[str, str] = {}
    driver_options: dict[str, str] = {}
    kind = "volume"
    families: set[str] = set()
    import csv

    try:
        (cells,) = csv.reader([value], strict=True)
    except (csv.Error, ValueError):
        raise InvalidMount(f"invalid argument: {value!r} is not a line of CSV", value) from None
    for cell in cells:
        key, equals, text = cell.partition("=")
        key = key.strip().lower()
        given = text if equals else None
        if given is None and key not in {"readonly", "ro", "volume-nocopy", "bind-nonrecursive"}:
            raise InvalidMount(f"invalid field '{cell}' must be a key=value pair", value)
        families.add(key.split("-")[0] if "-" in key else "")
        match key:
            case "type":
                kind = text.lower()
            case "source" | "src":
                fields["source"] = text
            case "target" | "dst" | "destination":
                fields["target"] = text
            case "readonly" | "ro":
                fields["readonly"] = _flag(given, key, value)
            case "bind-propagation":
                fields["propagation"] = text.lower()
            case "bind-nonrecursive":
                fields["recursive"] = not _flag(given, key, value)
            case "bind-recursive":
                if text not in {"enabled", "disabled", "writable", "readonly"}:
                    raise InvalidMount(
                        f'invalid value for bind-recursive: {text} (must be "enabled", "disabled", "writable", or'
                        ' "readonly")',
                        value,
                    )
                fields["recursive"] = text != "disabled"
            case "consistency":
                pass
            case "volume-nocopy":
                fields["nocopy"] = _flag(given, key, value)
            case "volume-subpath" | "image-subpath":
                fields["subpath"] = _subpath(text, value)
            case "volume-label":
                name, _, content = text.partition("=")
                labels[name] = content
            case "volume-driver":
                fields["driver"] = text
            case "volume-opt":
                name, _, content = text.partition("=")
                driver_options[name] = content
            case "tmpfs-size":
                try:
                    fields["tmpfs_size"] = parse_size(text, value)
                except InvalidMount:
                    raise InvalidMount(f"invalid value for {key}: {text}", value) from None
            case "tmpfs-mode":
                try:
                    fields["tmpfs_mode"] = _octal(text, value)
                except InvalidMount:
                    raise InvalidMount(f"invalid value for {key}: {text}", value) from None
            case _:
                raise InvalidMount(f"unexpected key '{key}' in '{cell}'", value)
    for family in ("bind", "volume", "tmpfs", "image"):
        if family in families and family != kind:
            raise InvalidMount(f"cannot mix '{family}-*' options with mount type '{kind}'", value)
    return _checked(kind, fields, labels, driver_options, value)


def _checked(
    kind: str, fields: dict[str, Any], labels: dict[str, str], driver_options: dict[str, str], value: str
) -> MountSpec:
    if not fields.get("target"):
        raise InvalidMount("target is required", value)
    if kind not in {"bind", "volume", "tmpfs", "image"}:
        raise InvalidMountConfig(f'invalid mount config for type "{kind}": mount type unknown', value)
    if (mode := fields.get("propagation")) and mode not in PROPAGATIONS:  # threat 22
        raise InvalidMountConfig(f'invalid mount config for type "bind": invalid propagation mode: {mode}', value)
    source = fields.get("source", "")
    if kind == "bind":
        if not source:
            raise InvalidMountConfig('invalid mount config for type "bind": field Source must not be empty', value)
        if not source.startswith("/"):
            raise InvalidMountConfig(
                f"invalid mount config for type \"bind\": invalid mount path: '{source}' mount path must be absolute",
                value,
            )
        fields["source"] = posixpath.normpath(source)
    elif kind == "tmpfs" and source:
        raise InvalidMountConfig('invalid mount config for type "tmpfs": field Source must not be specified', value)
    elif kind == "image" and not source:
        raise InvalidMountConfig('invalid mount config for type "image": field Source must not be empty', value)
    elif kind == "volume" and source and not valid_volume_name(source):
        raise InvalidMountConfig(f"create {source}: {why_not_a_name(source)}", value)
    try:
        fields["target"] = _target(fields["target"], value)
    except InvalidMount as error:
        detail = error.message.rpartition("invalid mount config: ")[2]
        raise InvalidMountConfig(f'invalid mount config for type "{kind}": {detail}', value) from None
    if kind == "image":
        fields["readonly"] = True
    mount_type: MountType = "bind" if kind == "bind" else "tmpfs" if kind == "tmpfs" else "volume"
    if kind == "image":
        mount_type = "image"
    return MountSpec(mount_type, **fields, labels=labels, driver_options=driver_options)


def _subpath(text: str, value: str) -> str:
    clean = posixpath.normpath(text)
    if clean.startswith(("/", "..")):
        raise InvalidMount("subpath must be a relative path within the volume", value)
    return "" if clean == "." else clean
