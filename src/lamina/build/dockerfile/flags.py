"""Typed reading of `--name=value` flags (feature D04)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.suggest import did_you_mean
from lamina.values import dataclass

#: What a flag takes: one text, yes or no, or any number of texts.
Kind = Literal["text", "switch", "list"]

_TRUE: Final = "true"
_FALSE: Final = "false"


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of one instruction, by name without `--`."""

    _values: Mapping[str, tuple[str, ...]]

    def text(self, name: str) -> str:
        """The value, "" when the flag is not given."""
        return self._values.get(name, ("",))[0]

    def switch(self, name: str) -> bool | None:
        """Yes or no, None when the flag is not given."""
        return self._values[name][0] == _TRUE if name in self._values else None

    def items(self, name: str) -> tuple[str, ...]:
        """All values in order."""
        return self._values.get(name, ())


def parse_flags(written: tuple[str, ...], known: Mapping[str, Kind]) -> Flags:
    """Read flags.

    Args:
        written: each begins with `--`.
        known: the flags of this instruction.

    Raises:
        DockerfileError: a flag is unknown, given twice, or has no value or a wrong one.
    """
    values: dict[str, list[str]] = {}
    for flag in written:
        name, equals, value = flag[2:].partition("=")
        kind = known.get(name)
        if kind is None:
            raise DockerfileError(f"unknown flag: --{name}{did_you_mean(name, known)}")
        if name in values and kind != "list":
            raise DockerfileError(f"duplicate flag specified: --{name}")
        # A switch may stand alone, and a text may be empty, but not the other way round.
        if (equals and not value) if kind == "switch" else not equals:
            raise DockerfileError(f"missing a value on flag: --{name}")
        if kind == "switch":
            value = value.lower() or _TRUE
            if value not in (_TRUE, _FALSE):
                raise DockerfileError(f"expecting boolean value for flag --{name}, not: {value}")
        values.setdefault(name, []).append(value)
    return Flags({name: tuple(items) for name, items in values.items()})
