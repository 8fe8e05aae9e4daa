"""Image configuration and history (image-spec, config.md; Docker's extra fields Healthcheck, OnBuild, Shell, ...).

`ImageConfig` is what an image says about itself, `RunConfig` its `config` member: how to start a container. Both keep
the fields that lamina does not know, and `ImageConfig.raw` keeps the bytes, because the image id is their digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lamina.spec.digest import Digest
from lamina.spec.document import Node, dumps, parse
from lamina.spec.platform import Platform
from lamina.values import dataclass, field, replace

_KNOWN: Final = {
    "created",
    "author",
    "architecture",
    "os",
    "os.version",
    "os.features",
    "variant",
    "config",
    "rootfs",
    "history",
}
_RUN_KNOWN: Final = {
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Healthcheck",
    "OnBuild", "Shell", "ArgsEscaped",
}  # fmt: skip
_HEALTH_KNOWN: Final = {"Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"}
_HISTORY_KNOWN: Final = {"created", "created_by", "author", "comment", "empty_layer"}


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """How a container's health is probed (D22). Durations are nanoseconds, 0 = the runtime's default.

    `test` is `("NONE",)`, `("CMD", arg...)`, `("CMD-SHELL", line)` or empty (inherit).
    """

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def from_node(cls, node: Node) -> Healthcheck:
        """Read Docker's object."""
        return cls(
            node.at("Test").strings(),
            node.at("Interval").integer(0),
            node.at("Timeout").integer(0),
            node.at("StartPeriod").integer(0),
            node.at("StartInterval").integer(0),
            node.at("Retries").integer(0),
            {key: value for key, value in node.object().items() if key not in _HEALTH_KNOWN},
        )

    def to_json(self) -> dict[str, Any]:
        """Docker's object; zero fields are left out."""
        numbers = {
            "Interval": self.interval,
            "Timeout": self.timeout,
            "StartPeriod": self.start_period,
            "StartInterval": self.start_interval,
            "Retries": self.retries,
        }
        test = {"Test": list(self.test)} if self.test else {}
        return test | {key: value for key, value in numbers.items() if value} | dict(self.extra)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How to start a container of an image: the `config` member.

    `entrypoint` and `cmd` are None when unset, which is not the same as empty; `shell` is () when unset.
    `env` is a tuple of `NAME=value`. `exposed_ports` holds `80/tcp` forms, `volumes` container paths, both sorted.
    """

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()
    args_escaped: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def from_node(cls, node: Node) -> RunConfig:
        """Read the `config` member; absent members give the defaults.

        Raises:
            InvalidDocument: with the JSON path of the field.
        """
        return cls(
            user=node.at("User").string(""),
            exposed_ports=tuple(sorted(node.at("ExposedPorts").object())),
            env=node.at("Env").strings(),
            entrypoint=_argv(node.at("Entrypoint")),
            cmd=_argv(node.at("Cmd")),
            volumes=tuple(sorted(node.at("Volumes").object())),
            working_dir=node.at("WorkingDir").string(""),
            labels=node.at("Labels").string_map(),
            stop_signal=node.at("StopSignal").string(""),
            healthcheck=Healthcheck.from_node(node.at("Healthcheck")) if "Healthcheck" in node else None,
            on_build=node.at("OnBuild").strings(),
            shell=node.at("Shell").strings(),
            args_escaped=node.at("ArgsEscaped").boolean(),
            extra={key: value for key, value in node.object().items() if key not in _RUN_KNOWN},
        )

    def to_json(self) -> dict[str, Any]:
        """The spec's object; unset fields are left out, keys in Docker's order."""
        result: dict[str, Any] = {}
        if self.user:
            result["User"] = self.user
        if self.exposed_ports:
            result["ExposedPorts"] = {port: {} for port in self.exposed_ports}
        if self.env:
            result["Env"] = list(self.env)
        if self.entrypoint is not None:
            result["Entrypoint"] = list(self.entrypoint)
        if self.cmd is not None:
            result["Cmd"] = list(self.cmd)
        if self.healthcheck is not None:
            result["Healthcheck"] = self.healthcheck.to_json()
        if self.args_escaped:
            result["ArgsEscaped"] = True
        if self.volumes:
            result["Volumes"] = {path: {} for path in self.volumes}
        if self.working_dir:
            result["WorkingDir"] = self.working_dir
        if self.on_build:
            result["OnBuild"] = list(self.on_build)
        if self.labels:
            result["Labels"] = {key: self.labels[key] for key in sorted(self.labels)}
        if self.stop_signal:
            result["StopSignal"] = self.stop_signal
        if self.shell:
            result["Shell"] = list(self.shell)
        return result | dict(self.extra)

    def environment(self) -> dict[str, str]:
        """`env` as a mapping, later entries win."""
        return dict(entry.partition("=")[::2] for entry in self.env)


@dataclass(frozen=True, slots=True)
class History:
    """One line of an image's history. `created` is the RFC 3339 text as written, "" when absent."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def from_node(cls, node: Node) -> History:
        """Read one entry."""
        return cls(
            node.at("created").string(""),
            node.at("created_by").string(""),
            node.at("author").string(""),
            node.at("comment").string(""),
            node.at("empty_layer").boolean(),
            {key: value for key, value in node.object().items() if key not in _HISTORY_KNOWN},
        )

    def to_json(self) -> dict[str, Any]:
        """The spec's object; empty fields are left out."""
        texts = {
            "created": self.created,
            "author": self.author,
            "created_by": self.created_by,
            "comment": self.comment,
        }
        result: dict[str, Any] = {key: text for key, text in texts.items() if text}
        if self.empty_layer:
            result["empty_layer"] = True
        return result | dict(self.extra)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image's configuration document.

    Attributes:
        raw: the bytes whose digest is the image id.
        platform: os, architecture, variant.
        diff_ids: digests of the uncompressed layers, bottom first.
        history: oldest first; entries without `empty_layer` line up with `diff_ids`.
        created: RFC 3339 text as written, "" when absent.
        extra: members that lamina does not know.
    """

    raw: bytes = field(repr=False)
    platform: Platform
    config: RunConfig
    diff_ids: tuple[Digest, ...]
    history: tuple[History, ...] = ()
    created: str = ""
    author: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, raw: bytes) -> ImageConfig:
        """Read a config.

        Raises:
            InvalidDocument: with the JSON path of what is wrong.
        """
        node = Node(parse(raw, "image config"), "image config")
        rootfs = node.at("rootfs")
        return cls(
            raw=raw,
            platform=Platform.from_node(node),
            config=RunConfig.from_node(node.at("config")),
            diff_ids=tuple(item.parse_with(Digest.parse) for item in rootfs.at("diff_ids").items()),
            history=tuple(History.from_node(item) for item in node.at("history").items()),
            created=node.at("created").string(""),
            author=node.at("author").string(""),
            extra={key: value for key, value in node.object().items() if key not in _KNOWN},
        )

    @classmethod
    def make(
        cls,
        *,
        platform: Platform,
        config: RunConfig,
        diff_ids: tuple[Digest, ...],
        history: tuple[History, ...] = (),
        created: str = "",
        author: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> ImageConfig:
        """Write a new config; the same arguments give the same bytes."""
        document: dict[str, Any] = {}
        if created:
            document["created"] = created
        if author:
            document["author"] = author
        document |= platform.to_json()
        document["config"] = config.to_json()
        document["rootfs"] = {"type": "layers", "diff_ids": [str(diff_id) for diff_id in diff_ids]}
        if history:
            document["history"] = [entry.to_json() for entry in history]
        document |= extra or {}
        return cls(dumps(document), platform, config, diff_ids, history, created, author, extra or {})

    def edit(self, **changes: Any) -> ImageConfig:
        """A new config with fields replaced (those of `make`), everything else kept, unknown members included."""
        return ImageConfig.make(
            platform=changes.get("platform", self.platform),
            config=changes.get("config", self.config),
            diff_ids=changes.get("diff_ids", self.diff_ids),
            history=changes.get("history", self.history),
            created=changes.get("created", self.created),
            author=changes.get("author", self.author),
            extra=changes.get("extra", self.extra),
        )

    @property
    def id(self) -> Digest:
        """The image id: the digest of the config's bytes."""
        return Digest.of(self.raw)

    def with_config(self, **changes: Any) -> ImageConfig:
        """A new config whose `config` member has fields replaced."""
        return self.edit(config=replace(self.config, **changes))


def _argv(node: Node) -> tuple[str, ...] | None:
    """A list of arguments; old images hold a plain string here."""
    if node.value is None:
        return None
    return (node.value,) if isinstance(node.value, str) else node.strings()
