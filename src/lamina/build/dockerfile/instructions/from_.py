"""FROM (feature D06)."""

from __future__ import annotations

import re
from typing import ClassVar

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.flags import parse_flags
from lamina.build.dockerfile.gofmt import quote
from lamina.build.dockerfile.instructions.base import Instruction, origin
from lamina.build.dockerfile.statements import Statement
from lamina.values import dataclass

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """FROM. Variables in `base` and `platform` come from global ARGs only and are replaced by `stages.bind`.

    Attributes:
        base: image, stage or `scratch`, as written.
        alias: the stage's name in lower case, "" when it has none.
        platform: `--platform` as written, "" when not given.
        alias_written: the stage's name as written.
        as_written: the word AS as written.
    """

    NAME: ClassVar[str] = "FROM"

    base: str
    alias: str = ""
    platform: str = ""
    alias_written: str = ""
    as_written: str = ""


def from_(statement: Statement) -> From:
    """Build FROM."""
    flags = parse_flags(statement.flags, {"platform": "text"})
    words = statement.words()
    if len(words) == 1:
        return From(origin=origin(statement), base=words[0], platform=flags.text("platform"))
    if len(words) != 3 or words[1].lower() != "as":
        raise DockerfileError("FROM requires either one or three arguments")
    base, as_written, written = words
    if not _STAGE_NAME.fullmatch(written.lower()):
        raise DockerfileError(
            f"invalid name for build stage: {quote(written)}, name can't start with a number or contain symbols"
        )
    return From(
        origin=origin(statement),
        base=base,
        alias=written.lower(),
        platform=flags.text("platform"),
        alias_written=written,
        as_written=as_written,
    )
