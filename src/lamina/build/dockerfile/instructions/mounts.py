"""`RUN --mount`: the five kinds of mount and their options (features D10-D14)."""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.gofmt import quote
from lamina.build.dockerfile.instructions.base import Expander
from lamina.build.dockerfile.suggest import did_you_mean
from lamina.values import dataclass, replace

MountType = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
Sharing = Literal["shared", "private", "locked"]

SECRETS_DIR: Final = "/run/secrets"
SSH_SOCKET: Final = "/run/buildkit/ssh_agent"

_TYPES: Final[dict[str, MountType]] = {name: name for name in get_args(MountType)}
_SHARING: Final[dict[str, Sharing]] = {name: name for name in get_args(Sharing)}
#: Every key with the one that it stands for.
_KEYS: Final = {
    "type": "type", "from": "from", "source": "source", "src": "source", "target": "target", "dst": "target",
    "destination": "target", "readonly": "readonly", "ro": "readonly", "readwrite": "readwrite", "rw": "readwrite",
    "id": "id", "sharing": "sharing", "required": "required", "size": "size", "mode": "mode", "uid": "uid",
    "gid": "gid", "env": "env",
}  # fmt: skip
_BARE_KEYS: Final = ("readonly", "readwrite", "required")
#: Keys that only some types know.
_ONLY_FOR: Final[dict[str, tuple[MountType, ...]]] = {"required": ("secret", "ssh"), "size": ("tmpfs",)}
_FILE_KEYS: Final = ("mode", "uid", "gid")
_FILE_TYPES: Final = ("secret", "ssh", "cache")
_DEFAULT_MODES: Final[dict[MountType, int]] = {"cache": 0o755, "secret": 0o400, "ssh": 0o600}
_BOOLEANS: Final = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([kmgtp]?)i?b?", re.IGNORECASE | re.ASCII)
_UINT32: Final = 2**32


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a RUN instruction.

    Attributes:
        type: its kind.
        target: where it appears; absolute once `placed`. "" for a secret that is only an environment variable.
        source: path in `source_stage`, or a secret's id when `id` is empty.
        source_stage: stage, image or named context; "" is the build context (for a cache: nothing).
        read_only: no writes.
        size: bytes of a tmpfs, 0 for no limit.
        id: of a cache, secret or ssh agent.
        sharing: of a cache.
        required: whether the build fails without the secret or agent.
        env: the environment variable that holds the secret, "" for none.
        mode: permissions of the file or cache directory, None for the default.
        uid: owner, None for the default 0.
        gid: group, None for the default 0.
    """

    type: MountType = "bind"
    target: str = ""
    source: str = ""
    source_stage: str = ""
    read_only: bool = True
    size: int = 0
    id: str = ""
    sharing: Sharing = "shared"
    required: bool = False
    env: str = ""
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None

    @property
    def permissions(self) -> int:
        """`mode`, or the default of this type (cache 0755, secret 0400, ssh 0600)."""
        return _DEFAULT_MODES.get(self.type, 0) if self.mode is None else self.mode

    def placed(self, workdir: str, number: int = 0) -> Mount:
        """With an absolute target, and the default target and id filled in.

        Args:
            workdir: the working directory of the instruction.
            number: how many ssh mounts of the same RUN come before it.

        Raises:
            DockerfileError: the target would be the root directory.
        """
        identity, target = self.id, self.target
        if self.type == "secret":
            identity = self.source or self.id or posixpath.basename(self.target)
            if not target and not self.env:
                target = f"{SECRETS_DIR}/{posixpath.basename(identity)}"
            if not target:
                return replace(self, id=identity)
        elif self.type == "ssh":
            identity = self.id or "default"
            target = target or f"{SSH_SOCKET}.{number}"
        elif self.type == "cache":
            identity = self.id or _clean(self.target)
        target = _clean(posixpath.join("/", workdir, target))
        if target == "/":
            raise DockerfileError(f"invalid mount target {quote(target)}", hint="give target= a path below /")
        return replace(self, id=identity, target=target)


@dataclass(frozen=True, slots=True)
class MountSpec:
    """A `--mount` as written, values not yet expanded.

    Attributes:
        text: the flag's value.
        fields: key (canonical, lower case) and value (None when the key stands alone), in order.
        source_stage: the value of `from`, in which variables are not allowed.
    """

    text: str
    fields: tuple[tuple[str, str | None], ...]
    source_stage: str

    def resolve(self, expander: Expander) -> Mount:
        """Expand the values and check them.

        Raises:
            DockerfileError: an unknown type, a value of the wrong form, a key that this type does not know.
        """
        values: dict[str, str | None] = {}
        read_only: bool | None = None
        for key, raw in self.fields:
            value = raw if raw is None or key == "from" else expander.word(raw)
            if key in ("readonly", "readwrite"):
                read_only = (value is None or _boolean(key, value)) == (key == "readonly")
            values[key] = value
        mount_type = _mount_type(values.get("type") or "bind")
        for key in values:
            _check_key(key, mount_type)
        if read_only is None:
            read_only = mount_type not in ("cache", "tmpfs")
        sharing = values.get("sharing")
        required = values.get("required", "false")
        mount = Mount(
            type=mount_type,
            target=values.get("target") or "",
            source=values.get("source") or "",
            source_stage=self.source_stage,
            read_only=read_only,
            size=_size(values["size"] or "") if "size" in values else 0,
            id=values.get("id") or "",
            sharing=_sharing(sharing) if sharing is not None else "shared",
            required=required is None or _boolean("required", required),
            mode=_number(values, "mode", 8),
            uid=_number(values, "uid", 10),
            gid=_number(values, "gid", 10),
        )
        _check(mount)
        if "env" in values:
            # An empty name stands for the secret's own.
            mount = replace(mount, env=values["env"] or mount.source or mount.id or posixpath.basename(mount.target))
        return mount


def parse_mount(text: str) -> MountSpec:
    """Read the value of `--mount`.

    Raises:
        DockerfileError: malformed CSV, an unknown key, a key without value, or a variable in `from`.
    """
    fields: list[tuple[str, str | None]] = []
    stage = ""
    for field in csv_fields(text):
        written, equals, value = field.partition("=")
        key = _KEYS.get(written.lower())
        if key is None:
            raise DockerfileError(
                f"unexpected key '{written.lower()}' in '{field}'{did_you_mean(written.lower(), _KEYS)}"
            )
        if not equals and key not in _BARE_KEYS:
            raise DockerfileError(f"invalid field '{field}' must be a key=value pair")
        if key == "from":
            if "$" in value[:-1]:
                raise DockerfileError("'from' doesn't support variable expansion, define alias stage instead")
            stage = value
        fields.append((key, value if equals else None))
    return MountSpec(text, tuple(fields), stage)


def csv_fields(text: str) -> list[str]:
    """The comma-separated fields of a flag's value; double quotes protect commas.

    Raises:
        DockerfileError: a quote is misplaced.
    """
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise DockerfileError(f"failed to parse csv {quote(text)}: {error}") from None
    return rows[0] if rows and rows[0] else [""]


def _mount_type(text: str) -> MountType:
    found = _TYPES.get(text.lower())
    if found is None:
        raise DockerfileError(f"unsupported mount type {quote(text)}{did_you_mean(text, _TYPES)}")
    return found


def _sharing(text: str) -> Sharing:
    found = _SHARING.get(text.lower())
    if found is None:
        raise DockerfileError(f"unsupported sharing value {quote(text)}{did_you_mean(text, _SHARING)}")
    return found


def _check_key(key: str, mount_type: MountType) -> None:
    if mount_type not in _ONLY_FOR.get(key, (mount_type,)):
        raise DockerfileError(f"unexpected key '{key}' for mount type '{mount_type}'")
    if key in _FILE_KEYS and mount_type not in _FILE_TYPES:
        raise DockerfileError(f"{key} not allowed for {quote(mount_type)} type mounts")
    if key == "sharing" and mount_type != "cache":
        if mount_type == "secret":
            raise DockerfileError("secret mount should not define sharing")
        raise DockerfileError(f"invalid cache sharing set for {mount_type} mount")


def _check(mount: Mount) -> None:
    if mount.type == "secret":
        if mount.source_stage:
            raise DockerfileError("secret mount should not have a from")
        if not (mount.source or mount.target or mount.id):
            raise DockerfileError("invalid secret mount. one of source, target required")
        if mount.source and mount.id:
            raise DockerfileError("both source and id can't be set")
    if mount.type == "ssh" and mount.source:
        raise DockerfileError("ssh does not support source")


def _boolean(key: str, text: str) -> bool:
    if text not in _BOOLEANS:
        raise DockerfileError(f"invalid value for {key}: {text}")
    return _BOOLEANS[text]


def _number(values: Mapping[str, str | None], key: str, base: int) -> int | None:
    if key not in values:
        return None
    text = values[key] or ""
    digits = "01234567" if base == 8 else "0123456789"
    if not text or len(text) > 12 or text.strip(digits) or int(text, base) >= _UINT32:
        raise DockerfileError(f"invalid value {text} for {key}")
    return int(text, base)


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise DockerfileError(f"invalid value for size: {text}")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


def _clean(path: str) -> str:
    """Lexically shortest form; two leading slashes are one."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned
