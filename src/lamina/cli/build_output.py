"""Where a build's image goes, and the flags of docker's `build` that wait for the full builder."""

from __future__ import annotations

from typing import Final

from lamina.cli.failures import CliError
from lamina.cli.flags import Options, flag
from lamina.cli.values import BOOL, LIST
from lamina.values import dataclass

_MOUNTS: Final = "RUN mounts come with the full builder"
_CACHES: Final = "cache export and import come with the full builder"
_ATTESTATIONS: Final = "attestations come with the full builder"
_LATER: Final = "it comes with the full builder"
#: Names of flags that are read and refused, with the reason; `--provenance=false` and the like ask for what is done.
LATER: Final = {
    "allow": "entitlements come with the full builder",
    "annotation": _LATER,
    "attest": _ATTESTATIONS,
    "build-context": "named contexts come with the full builder",
    "builder": "builders of buildx come with the full builder",
    "cache-from": _CACHES,
    "cache-to": _CACHES,
    "call": _LATER,
    "cgroup-parent": _LATER,
    "check": _LATER,
    "metadata-file": _LATER,
    "no-cache-filter": _LATER,
    "output": "exporters other than `type=docker` and `type=registry` come with the full builder",
    "provenance": _ATTESTATIONS,
    "sbom": _ATTESTATIONS,
    "secret": _MOUNTS,
    "ssh": _MOUNTS,
}
_OFF: Final = frozenset({"0", "f", "false"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LaterFlags(Options):
    """The flags in `LATER`; help does not show them."""

    allow: tuple[str, ...] = flag("allow", kind=LIST, hidden=True)
    annotation: tuple[str, ...] = flag("annotation", kind=LIST, hidden=True)
    attest: tuple[str, ...] = flag("attest", kind=LIST, hidden=True)
    build_context: tuple[str, ...] = flag("build-context", kind=LIST, hidden=True)
    builder: tuple[str, ...] = flag("builder", kind=LIST, hidden=True)
    cache_from: tuple[str, ...] = flag("cache-from", kind=LIST, hidden=True)
    cache_to: tuple[str, ...] = flag("cache-to", kind=LIST, hidden=True)
    call: tuple[str, ...] = flag("call", kind=LIST, hidden=True)
    cgroup_parent: tuple[str, ...] = flag("cgroup-parent", kind=LIST, hidden=True)
    check: bool = flag("check", kind=BOOL, hidden=True)
    metadata_file: tuple[str, ...] = flag("metadata-file", kind=LIST, hidden=True)
    no_cache_filter: tuple[str, ...] = flag("no-cache-filter", kind=LIST, hidden=True)
    provenance: tuple[str, ...] = flag("provenance", kind=LIST, hidden=True)
    sbom: tuple[str, ...] = flag("sbom", kind=LIST, hidden=True)
    secret: tuple[str, ...] = flag("secret", kind=LIST, hidden=True)
    ssh: tuple[str, ...] = flag("ssh", kind=LIST, hidden=True)


def pushes(outputs: tuple[str, ...], *, push: bool) -> bool:
    """Whether `--push` or `--output` wants every tag in its registry; an image is always loaded, as `--load` wants it.

    Raises:
        CliError: an exporter that is not there yet.
    """
    for text in outputs:
        fields = dict(_pair(part) for part in text.split(","))
        kind, pushed = fields.pop("type", ""), fields.pop("push", "false").lower()
        if fields or kind not in {"docker", "image", "registry"} or (pushed != "false" and kind == "docker"):
            raise refusal("output")
        push = push or kind == "registry" or pushed == "true"
    return push


def refuse_later(flags: LaterFlags) -> None:
    """Refuse flags that are not there yet.

    Raises:
        CliError: in one line.
    """
    for name in sorted(flags.given & LATER.keys() - {"output"}):
        values = () if name == "check" else getattr(flags, name.replace("-", "_"))
        if name == "check" and not flags.check:
            continue
        if name in {"provenance", "sbom"} and all(value.lower() in _OFF for value in values):
            continue
        if name == "attest" and all(dict(map(_pair, value.split(","))).get("disabled") == "true" for value in values):
            continue
        raise refusal(name)


def refusal(name: str) -> CliError:
    """The one line that says why a flag does nothing yet."""
    return CliError(f"'lamina build --{name}' is not there yet: {LATER[name]}")


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.strip().partition("=")
    return name, value
