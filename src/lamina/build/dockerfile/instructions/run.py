"""RUN (features D09, D15, D33)."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, Self

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.expand import Mode, expand
from lamina.build.dockerfile.flags import Kind, parse_flags
from lamina.build.dockerfile.gofmt import quote
from lamina.build.dockerfile.instructions.base import (
    CommandLine,
    Expander,
    Instruction,
    at_least_one,
    command_line,
    origin,
)
from lamina.build.dockerfile.instructions.mounts import Mount, MountSpec, csv_fields, parse_mount
from lamina.build.dockerfile.statements import Statement
from lamina.build.dockerfile.suggest import did_you_mean
from lamina.values import dataclass, replace

Network = Literal["default", "none", "host"]
Security = Literal["sandbox", "insecure"]

_NETWORKS: Final[dict[str, Network]] = {"default": "default", "none": "none", "host": "host"}
_SECURITIES: Final[dict[str, Security]] = {"sandbox": "sandbox", "insecure": "insecure"}
_FLAGS: Final[dict[str, Kind]] = {"mount": "list", "network": "text", "security": "text", "device": "list"}


@dataclass(frozen=True, slots=True)
class Device:
    """`--device`: a CDI device by name (D15)."""

    name: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """RUN. The command's text is never expanded here; the shell does that.

    Attributes:
        command: what to run; heredocs are part of it.
        mount_specs: `--mount` as written.
        mounts: the mounts with values, filled by `expanded`; targets are as written.
        network: `--network`.
        security: `--security`.
        devices: `--device`.
    """

    NAME: ClassVar[str] = "RUN"

    command: CommandLine
    mount_specs: tuple[MountSpec, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: Network = "default"
    security: Security = "sandbox"
    devices: tuple[Device, ...] = ()

    def expanded(self, expander: Expander) -> Self:
        """The values of --mount."""
        return replace(self, mounts=tuple(spec.resolve(expander) for spec in self.mount_specs))


class _NoVariables:
    """Resolves quotes and escapes; used to check mounts without variables as soon as they are read."""

    def __init__(self, escape: str) -> None:
        self._mode = Mode(escape)

    def word(self, text: str) -> str:
        return expand(text, {}, self._mode).text

    def words(self, text: str) -> tuple[str, ...]:
        return expand(text, {}, self._mode).words

    def body(self, text: str) -> str:
        return expand(text, {}, Mode(self._mode.escape, quotes=False)).text


def run(statement: Statement) -> Run:
    """Build RUN."""
    flags = parse_flags(statement.flags, _FLAGS)
    command = command_line(statement)
    if not command.shell_form and not command.words:
        raise at_least_one(statement)
    specs = tuple(parse_mount(text) for text in flags.items("mount"))
    for spec in specs:
        if "$" not in spec.text:
            spec.resolve(_NoVariables(statement.escape))
    network = flags.text("network") or "default"
    if network.lower() not in _NETWORKS:
        raise DockerfileError(f"invalid network mode {quote(network)}{did_you_mean(network, _NETWORKS)}")
    security = flags.text("security") or "sandbox"
    if security.lower() not in _SECURITIES:
        raise DockerfileError(f"security {quote(security)} is not valid{did_you_mean(security, _SECURITIES)}")
    return Run(
        origin=origin(statement),
        command=command,
        mount_specs=specs,
        network=_NETWORKS[network.lower()],
        security=_SECURITIES[security.lower()],
        devices=tuple(_device(text) for text in flags.items("device")),
    )


def _device(text: str) -> Device:
    """`name`, `name,required`, or `name=..,required=true`."""
    name, required = "", False
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        if key.lower() == "required":
            if equals and value.lower() not in ("true", "false", "1", "0"):
                raise DockerfileError(f"invalid value for required: {value}")
            required = value.lower() not in ("false", "0")
            continue
        # A CDI name holds `=` itself (vendor.com/class=name); only a plain `name=` is the key.
        candidate = value if key.lower() == "name" and equals else field
        if not candidate:
            raise DockerfileError(f"invalid field '{field}' in --device={text}")
        if name:
            raise DockerfileError(f"device name already set to {name}")
        name = candidate
    if not name:
        raise DockerfileError(f"--device={text} names no device")
    return Device(name, required)
