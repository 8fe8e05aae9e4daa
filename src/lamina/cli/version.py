"""`lamina version` (C36): docker's client and server blocks; without a daemon the server is this very library."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from lamina import __version__
from lamina.cli.command import NO_ARGUMENTS, command
from lamina.cli.flags import Options, flag
from lamina.cli.format.help import INSPECT_HELP
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.cli.context import Context

API_VERSION = "1.50"  # the Engine API whose words and JSON lamina speaks (docker 28.2)
MIN_API_VERSION = "1.24"

_GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_CLIENT_ROWS = (
    ("Version", "Version"),
    ("API version", "ApiVersion"),
    ("Python version", "PythonVersion"),
    ("OS/Arch", "OSArch"),
    ("Context", "Context"),
)
_ENGINE_ROWS = (
    ("Version", "Version"),
    ("API version", "ApiVersion"),
    ("Python version", "PythonVersion"),
    ("Kernel version", "KernelVersion"),
    ("OS/Arch", "OSArch"),
    ("Experimental", "Experimental"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionOptions(Options):
    """Flags of `lamina version`."""

    format: str = flag("format", "f", help=INSPECT_HELP)


def facts() -> dict[str, Any]:
    """Versions of client and server, with docker's JSON keys plus `PythonVersion`."""
    kernel = os.uname()
    system, arch = kernel.sysname.lower(), _GO_ARCH.get(kernel.machine, kernel.machine)
    python = ".".join(map(str, sys.version_info[:3]))
    client = {
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "DefaultAPIVersion": API_VERSION,
        "PythonVersion": python,
        "Os": system,
        "Arch": arch,
        "Context": "default",
    }
    server = {
        "Platform": {"Name": "lamina (embedded, no daemon)"},
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "PythonVersion": python,
        "Os": system,
        "Arch": arch,
        "KernelVersion": kernel.release,
        "Experimental": False,
    }
    return {"Client": client, "Server": server}


def blocks(found: dict[str, Any]) -> str:
    """The two blocks as docker lays them out."""
    client, server = found["Client"], found["Server"]
    lines = ["Client:", *_rows(_CLIENT_ROWS, client, 1), "", f"Server: {server['Platform']['Name']}", " Engine:"]
    return "\n".join([*lines, *_rows(_ENGINE_ROWS, server, 2)]) + "\n"


def _rows(rows: tuple[tuple[str, str], ...], found: dict[str, Any], indent: int) -> list[str]:
    values = {**found, "OSArch": f"{found['Os']}/{found['Arch']}"}
    width = 19 - indent
    return [f"{' ' * indent}{label + ':':<{width}}{_text(values[key])}" for label, key in rows]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@command(VersionOptions, usage="[OPTIONS]", arity=NO_ARGUMENTS)
def version(ctx: Context, options: VersionOptions) -> None:
    """Prints both blocks, or a template over them."""
    found = facts()
    if not options.format:
        ctx.stdout.write(blocks(found))
        return
    from lamina.cli.format.gojson import marshal
    from lamina.cli.format.gotemplate.template import parse
    from lamina.cli.format.gotemplate.values import Struct
    from lamina.cli.output import show_whole

    if options.format == "json":
        ctx.stdout.write(marshal(found) + "\n")
        return
    # Docker's template for version is called `version`, its values are structs.
    client = Struct(
        "system.clientVersion",
        {**found["Client"], "APIVersion": API_VERSION},
        json_names={k: k for k in found["Client"]},
    )
    platform = Struct("struct { Name string }", found["Server"]["Platform"])
    fields = {**found["Server"], "Platform": platform}
    server = Struct("types.Version", {**fields, "APIVersion": API_VERSION}, json_names={k: k for k in fields})
    value = Struct("system.versionInfo", {"Client": client, "Server": server})
    show_whole(ctx, parse(options.format, "version"), value)
