"""Instructions that hold a command: CMD ENTRYPOINT SHELL HEALTHCHECK (features D05, D16, D21, D22)."""

from __future__ import annotations

import re
from typing import ClassVar, Final

from lamina.build.dockerfile.blanks import SPACES
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.flags import Flags, Kind, parse_flags
from lamina.build.dockerfile.gofmt import parse_duration, quote
from lamina.build.dockerfile.instructions.base import CommandLine, Instruction, at_least_one, command_line, origin
from lamina.build.dockerfile.statements import Statement, json_strings
from lamina.spec.config import Healthcheck
from lamina.values import dataclass

_HEALTH_FLAGS: Final[dict[str, Kind]] = {
    "interval": "text",
    "timeout": "text",
    "start-period": "text",
    "start-interval": "text",
    "retries": "text",
}
_MILLISECOND: Final = 1_000_000
_INTEGER = re.compile(r"[+-]?\d{1,10}", re.ASCII)
_MAX_INT32: Final = 2**31 - 1
_FIRST = re.compile(rf"([^{SPACES}]+)[{SPACES}]*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    """CMD."""

    NAME: ClassVar[str] = "CMD"

    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    """ENTRYPOINT; an empty exec form resets."""

    NAME: ClassVar[str] = "ENTRYPOINT"

    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    """SHELL: what goes in front of shell forms from here on."""

    NAME: ClassVar[str] = "SHELL"

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck(Instruction):
    """HEALTHCHECK, already in the form that the image configuration stores."""

    NAME: ClassVar[str] = "HEALTHCHECK"

    health: Healthcheck


def cmd(statement: Statement) -> Cmd:
    """Build CMD."""
    parse_flags(statement.flags, {})
    return Cmd(origin=origin(statement), command=command_line(statement))


def entrypoint(statement: Statement) -> Entrypoint:
    """Build ENTRYPOINT."""
    parse_flags(statement.flags, {})
    return Entrypoint(origin=origin(statement), command=command_line(statement))


def shell(statement: Statement) -> Shell:
    """Build SHELL, which has only the JSON form."""
    parse_flags(statement.flags, {})
    words = json_strings(statement.rest)
    if not words:
        if words is None and statement.rest:
            raise DockerfileError("SHELL requires the arguments to be in JSON form")
        raise at_least_one(statement)
    return Shell(origin=origin(statement), words=words)


def health_check(statement: Statement) -> HealthCheck:
    """Build HEALTHCHECK."""
    match = _FIRST.fullmatch(statement.rest)
    if match is None:
        raise at_least_one(statement)
    kind, rest = match[1].upper(), match[2]
    flags = parse_flags(statement.flags, _HEALTH_FLAGS)
    if kind == "NONE":
        if rest:
            raise DockerfileError("HEALTHCHECK NONE takes no arguments")
        return HealthCheck(origin=origin(statement), health=Healthcheck(test=("NONE",)))
    if kind != "CMD":
        raise DockerfileError(f"Unknown type {quote(kind)} in HEALTHCHECK (try CMD)")
    words = json_strings(rest)
    if not words and (words is not None or not rest):
        raise DockerfileError("Missing command after HEALTHCHECK CMD")
    health = Healthcheck(
        test=("CMD-SHELL", rest) if words is None else ("CMD", *words),
        interval=_interval(flags, "interval"),
        timeout=_interval(flags, "timeout"),
        start_period=_interval(flags, "start-period"),
        start_interval=_interval(flags, "start-interval"),
        retries=_retries(flags.text("retries")),
    )
    return HealthCheck(origin=origin(statement), health=health)


def _interval(flags: Flags, name: str) -> int:
    text = flags.text(name)
    nanoseconds = parse_duration(text) if text else 0
    if nanoseconds and nanoseconds < _MILLISECOND:
        raise DockerfileError(f"Interval {quote(name)} cannot be less than 1ms")
    return nanoseconds


def _retries(text: str) -> int:
    if not text:
        return 0
    if not _INTEGER.fullmatch(text) or abs(int(text)) > _MAX_INT32:
        raise DockerfileError(f"--retries must be a number: {quote(text)}")
    if int(text) < 0:
        raise DockerfileError(f"--retries cannot be negative ({int(text)})")
    return int(text)
