"""The texts of image history, in the words of BuildKit and of the classic builder (features D47, S37)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lamina.build.dockerfile.gofmt import format_duration, plain_list, quote, quoted_list
from lamina.spec.config import Healthcheck, History
from lamina.values import dataclass

COMMENT: Final = "buildkit.dockerfile.v0"
_SUFFIX: Final = " # buildkit"


@dataclass(frozen=True, slots=True)
class StepHistory:
    """One entry.

    Attributes:
        created_by: BuildKit's words.
        legacy: the classic builder's words; for COPY and ADD without the digest of what was copied.
        empty_layer: whether the step makes no layer.
    """

    created_by: str
    legacy: str
    empty_layer: bool = True

    def entry(self, created: str = "") -> History:
        """The entry of the image configuration.

        Args:
            created: RFC 3339 time, or "" to leave it out.
        """
        return History(created, self.created_by, "", COMMENT, self.empty_layer)


def metadata(text: str, shell: Sequence[str], legacy: str | None = None) -> StepHistory:
    """An entry that only edits the configuration.

    Args:
        text: BuildKit's words.
        shell: the SHELL in force, which the classic builder puts in front.
        legacy: the classic builder's own words, where they differ.
    """
    return StepHistory(text, nop(text if legacy is None else legacy, shell))


def nop(text: str, shell: Sequence[str]) -> str:
    """`/bin/sh -c #(nop)  TEXT`."""
    return " ".join((*shell, "#(nop) ", text))


def run(argv: Sequence[str], arguments: Mapping[str, str]) -> StepHistory:
    """RUN, with the build arguments that are in force."""
    listed = [f"|{len(arguments)}", *(f"{name}={value}" for name, value in arguments.items())] if arguments else []
    text = " ".join((*listed, *argv))
    return StepHistory(f"RUN {text}{_SUFFIX}", text, empty_layer=False)


def files(
    name: str, sources: Iterable[str], dest: str, shell: Sequence[str], *, chown: str, chmod: str, parents: bool
) -> StepHistory:
    """COPY or ADD; heredoc sources as `<<NAME`."""
    flags = [
        flag
        for flag, given in (("--parents", parents), (f"--chown={chown}", chown), (f"--chmod={chmod}", chmod))
        if given
    ]
    text = " ".join((name, *flags, *sources, dest))
    legacy = " ".join((*shell, f"#(nop) {name}", *sources, f"in {dest} "))
    return StepHistory(text + _SUFFIX, legacy, empty_layer=False)


def workdir(path: str, shell: Sequence[str]) -> StepHistory:
    """WORKDIR makes a layer, except for the root."""
    text = f"WORKDIR {path}"
    return StepHistory(text, nop(text, shell), empty_layer=path == "/")


def expose(ports: Sequence[str], shell: Sequence[str]) -> StepHistory:
    """EXPOSE."""
    return metadata(f"EXPOSE {plain_list(ports)}", shell, f"EXPOSE {' '.join(ports)}")


def command(name: str, argv: Sequence[str], shell: Sequence[str]) -> StepHistory:
    """CMD and ENTRYPOINT: both builders write a list without commas."""
    return metadata(f"{name} {quoted_list(argv)}", shell)


def health_check(health: Healthcheck, shell: Sequence[str]) -> StepHistory:
    """HEALTHCHECK."""
    times = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ]
    fields = " ".join(f"{name}:{format_duration(value)}" for name, value in times)
    text = f"HEALTHCHECK {{Test:{plain_list(health.test)} {fields} Retries:{health.retries}}}"
    durations = " ".join(quote(format_duration(value)) for _, value in times)
    legacy = f"HEALTHCHECK &{{{quoted_list(health.test)} {durations} '\\x{health.retries:02x}'}}"
    return metadata(text, shell, legacy)
