"""From a statement to its typed instruction: the table of all 18 keywords."""

from __future__ import annotations

from typing import Final

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.instructions.base import Builder, Instruction
from lamina.build.dockerfile.instructions.commands import cmd, entrypoint, health_check, shell
from lamina.build.dockerfile.instructions.files import add, copy, workdir
from lamina.build.dockerfile.instructions.from_ import from_
from lamina.build.dockerfile.instructions.metadata import (
    OnBuild,
    arg,
    env,
    expose,
    label,
    maintainer,
    on_build,
    stop_signal,
    user,
    volume,
)
from lamina.build.dockerfile.instructions.run import run
from lamina.build.dockerfile.statements import Statement
from lamina.build.dockerfile.suggest import did_you_mean

BUILDERS: Final[dict[str, Builder]] = {
    "ADD": add,
    "ARG": arg,
    "CMD": cmd,
    "COPY": copy,
    "ENTRYPOINT": entrypoint,
    "ENV": env,
    "EXPOSE": expose,
    "FROM": from_,
    "HEALTHCHECK": health_check,
    "LABEL": label,
    "MAINTAINER": maintainer,
    "ONBUILD": on_build,
    "RUN": run,
    "SHELL": shell,
    "STOPSIGNAL": stop_signal,
    "USER": user,
    "VOLUME": volume,
    "WORKDIR": workdir,
}


def build(statement: Statement) -> Instruction:
    """Make the instruction.

    Raises:
        DockerfileError: the keyword is unknown, or its flags or arguments are wrong; without place.
    """
    builder = BUILDERS.get(statement.name) if statement.keyword.isascii() else None
    if builder is None:
        suggestion = did_you_mean(statement.keyword, BUILDERS, ignore_case=True)
        raise DockerfileError(f"unknown instruction: {statement.keyword}{suggestion}")
    instruction = builder(statement)
    if isinstance(instruction, OnBuild):
        build(statement.inner())
    return instruction
