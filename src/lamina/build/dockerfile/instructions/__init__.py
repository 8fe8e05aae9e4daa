"""The 18 instructions as typed values."""

from __future__ import annotations

from lamina.build.dockerfile.instructions.base import CommandLine, Expander, Instruction, Origin
from lamina.build.dockerfile.instructions.build import build
from lamina.build.dockerfile.instructions.commands import Cmd, Entrypoint, HealthCheck, Shell
from lamina.build.dockerfile.instructions.files import Add, Copy, Document, Transfer, Workdir
from lamina.build.dockerfile.instructions.from_ import From
from lamina.build.dockerfile.instructions.metadata import (
    Arg,
    ArgPair,
    Env,
    Expose,
    Label,
    Maintainer,
    OnBuild,
    Pair,
    StopSignal,
    User,
    Volume,
)
from lamina.build.dockerfile.instructions.mounts import Mount, MountSpec, MountType, Sharing
from lamina.build.dockerfile.instructions.run import Device, Network, Run, Security

__all__ = [
    "Add",
    "Arg",
    "ArgPair",
    "Cmd",
    "CommandLine",
    "Copy",
    "Device",
    "Document",
    "Entrypoint",
    "Env",
    "Expander",
    "Expose",
    "From",
    "HealthCheck",
    "Instruction",
    "Label",
    "Maintainer",
    "Mount",
    "MountSpec",
    "MountType",
    "Network",
    "OnBuild",
    "Origin",
    "Pair",
    "Run",
    "Security",
    "Sharing",
    "Shell",
    "StopSignal",
    "Transfer",
    "User",
    "Volume",
    "Workdir",
    "build",
]
