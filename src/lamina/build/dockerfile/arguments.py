"""Build arguments: the automatic ones, the global scope, and which of those given were used (features D37-D40)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from lamina.build.dockerfile.errors import located
from lamina.build.dockerfile.expand import Mode, expand
from lamina.build.dockerfile.instructions import Arg, Instruction
from lamina.build.dockerfile.source import Source
from lamina.spec.platform import Platform
from lamina.values import dataclass

#: Proxy arguments that RUN gets without any ARG, in this order (D38).
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")

#: Arguments that steer the builder (D40).
BUILTIN: Final = frozenset(
    {
        "BUILDKIT_BUILD_NAME",
        "BUILDKIT_CACHE_MOUNT_NS",
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
        "BUILDKIT_DOCKERFILE_CHECK",
        "BUILDKIT_INLINE_CACHE",
        "BUILDKIT_MULTI_PLATFORM",
        "BUILDKIT_SANDBOX_HOSTNAME",
        "BUILDKIT_SBOM_SCAN_CONTEXT",
        "BUILDKIT_SBOM_SCAN_STAGE",
        "BUILDKIT_SYNTAX",
        "SOURCE_DATE_EPOCH",
    }
)

#: Arguments that reach neither the environment of RUN nor any expansion (D40).
INVISIBLE: Final = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})


@dataclass(frozen=True, slots=True)
class Platforms:
    """The platform that builds, and the one that is built for."""

    build: Platform
    target: Platform

    def arguments(self, stage: str) -> dict[str, str]:
        """The automatic arguments of the global scope (D39).

        Args:
            stage: the name of the target stage, "" when it has none.
        """
        result = {}
        for prefix, platform in (("BUILD", self.build), ("TARGET", self.target)):
            result[f"{prefix}PLATFORM"] = str(platform)
            result[f"{prefix}OS"] = platform.os
            result[f"{prefix}OSVERSION"] = platform.os_version
            result[f"{prefix}ARCH"] = platform.architecture
            result[f"{prefix}VARIANT"] = platform.variant
        result["TARGETSTAGE"] = stage or "default"
        return result


def global_scope(
    declared: Iterable[Arg],
    automatic: Mapping[str, str],
    given: Mapping[str, str],
    source: Source,
    escape: str,
) -> dict[str, str]:
    """The variables that FROM lines see.

    Args:
        declared: the ARGs before the first FROM; later defaults see earlier arguments.
        automatic: the platform arguments; `given` replaces them as well.
        given: `--build-arg`.
        source: for messages.
        escape: the file's escape character.

    Raises:
        DockerfileError: a default cannot be expanded.
    """
    scope = {name: given.get(name, value) for name, value in automatic.items()}
    for instruction in declared:
        for pair in instruction.pairs:
            value = given.get(pair.name)
            if value is None and pair.default is not None:
                with located(source, instruction.range):
                    value = expand(pair.default, scope, Mode(escape)).text
            if value is not None:
                scope[pair.name] = value
    return scope


def proxy_environment(given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The proxy variables of RUN, each in upper and lower case, from build arguments in any case."""
    result: list[tuple[str, str]] = []
    folded = {name.upper(): given[name] for name in sorted(given)}
    for name in PROXIES:
        if value := folded.get(name):
            result += ((name, value), (name.lower(), value))
    return tuple(result)


def unconsumed(instructions: Iterable[Instruction], given: Iterable[str]) -> list[str]:
    """The build arguments that no ARG declares and the builder does not know, sorted (D37)."""
    declared = {pair.name for item in instructions if isinstance(item, Arg) for pair in item.pairs}
    platform = Platforms(Platform("", ""), Platform("", "")).arguments("")
    known = declared | BUILTIN | platform.keys()
    return sorted(name for name in given if name not in known and name.upper() not in PROXIES)
