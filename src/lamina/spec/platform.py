"""Platforms: os/arch[/variant], normalisation and matching (image-spec, image-index.md; containerd's rules)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from lamina.errors import Invalid
from lamina.spec.document import Node
from lamina.values import dataclass, field

_PART = re.compile(r"[A-Za-z0-9_.-]+")
_ARCH: Final = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "arm64": ("arm64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "arm": ("arm", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
    "mips64": ("mips64", ""),
}
_KNOWN_OS: Final = {"linux", "windows", "darwin", "freebsd", "macos"}


class InvalidPlatform(Invalid):
    """The text is no platform."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Where an image runs. `parse` and `from_node` give normalised values; `variant` and `os_version` may be ""."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = field(default=())

    @classmethod
    def parse(cls, text: str, *, host: Platform | None = None) -> Platform:
        """Parse `os/arch[/variant]`; with a `host`, also `os` or `arch` alone (`docker --platform arm64`).

        Raises:
            InvalidPlatform: wrong shape or characters.
        """
        parts = text.split("/")
        if not 1 <= len(parts) <= 3 or not all(_PART.fullmatch(part) for part in parts):
            raise InvalidPlatform(f'"{text}" is an invalid platform: want os/arch[/variant], for example linux/arm64')
        if len(parts) == 1:
            one = parts[0].lower()
            if host is None:
                raise InvalidPlatform(f'"{text}" is an invalid platform: want os/arch[/variant], like linux/arm64')
            if one in _KNOWN_OS:
                return cls(_os(one), host.architecture, host.variant)
            if one in _ARCH or one == "386":
                return cls(host.os, *normalise_arch(one, ""))
            raise InvalidPlatform(f'"{text}": unknown operating system or architecture')
        return cls(_os(parts[0]), *normalise_arch(parts[1], parts[2] if len(parts) == 3 else ""))

    @classmethod
    def from_node(cls, node: Node) -> Platform:
        """Read an index's `platform` object, or the same fields of an image config."""
        architecture, variant = normalise_arch(node.at("architecture").string(""), node.at("variant").string(""))
        return cls(
            _os(node.at("os").string("")),
            architecture,
            variant,
            node.at("os.version").string(""),
            node.at("os.features").strings(),
        )

    def to_json(self) -> dict[str, Any]:
        """The spec's object; empty fields are left out."""
        result: dict[str, Any] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            result["os.version"] = self.os_version
        if self.os_features:
            result["os.features"] = list(self.os_features)
        if self.variant:
            result["variant"] = self.variant
        return result

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def score(self, wanted: Platform) -> int:
        """How well an image of this platform serves `wanted`: 0 not at all, more is better."""
        if self.os != wanted.os:
            return 0
        if self.architecture != wanted.architecture:
            return 1 if (self.architecture, wanted.architecture) == ("386", "amd64") else 0
        if wanted.os_version and self.os_version and not self.os_version.startswith(wanted.os_version):
            return 0
        if self.variant == wanted.variant:
            return 100
        have, want = _level(self), _level(wanted)
        if have <= want:
            return 50 + have
        # a machine that did not say how new it is may still be new enough
        return 0 if wanted.variant else 2


def normalise_arch(architecture: str, variant: str) -> tuple[str, str]:
    """Spell an architecture and variant as images do: `aarch64` and arm64/v8 are arm64, amd64/v1 is amd64."""
    arch, implied = _ARCH.get(architecture.lower(), (architecture.lower(), ""))
    variant = variant.lower()
    if variant.isdigit():
        variant = f"v{variant}"
    if (arch, variant) in {("arm64", "v8"), ("amd64", "v1")}:
        variant = ""
    if arch == "arm" and not variant:
        variant = implied or "v7"
    return arch, variant


def best(wanted: Platform, offered: Iterable[Platform]) -> int | None:
    """The position of the platform that serves `wanted` best, first one on a tie; None when none does."""
    scored = [(-platform.score(wanted), position) for position, platform in enumerate(offered)]
    if not scored:
        return None
    score, position = min(scored)
    return position if score < 0 else None


def _os(name: str) -> str:
    lowered = name.lower()
    return "darwin" if lowered == "macos" else lowered


def _level(platform: Platform) -> int:
    """The generation that a variant names; older ones run on newer machines (amd64 v1..v4, arm v5..v8, arm64 v8..)."""
    digits = platform.variant.removeprefix("v").partition(".")[0]
    return min(int(digits), 40) if digits.isdecimal() else {"arm": 7, "arm64": 8}.get(platform.architecture, 1)


def of_machine(machine: str, system: str = "linux") -> Platform:
    """The platform of a machine name as uname prints it (`x86_64`)."""
    return Platform(_os(system), *normalise_arch(machine, ""))
