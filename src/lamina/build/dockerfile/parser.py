"""From the text of a Dockerfile to its instructions (features D01-D05, D49)."""

from __future__ import annotations

from collections.abc import Mapping

from lamina.build.dockerfile.directives import Directive
from lamina.build.dockerfile.errors import DockerfileError, located
from lamina.build.dockerfile.instructions import Arg, From, Instruction, build
from lamina.build.dockerfile.lexer import Lexer
from lamina.build.dockerfile.source import Range, Source
from lamina.build.dockerfile.statements import heredoc_marks, statement
from lamina.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed Dockerfile.

    Attributes:
        source: its name and text.
        escape: its escape character.
        directives: parser directives by key (`syntax`, `escape`, `check`).
        instructions: all of them in order; the first that is no ARG is a FROM.
        blank_continuations: the last lines of instructions that have a blank line inside.
    """

    source: Source
    escape: str
    directives: Mapping[str, Directive]
    instructions: tuple[Instruction, ...]
    blank_continuations: tuple[Range, ...] = ()


def parse(text: str | bytes, name: str = "Dockerfile") -> Dockerfile:
    """Parse a Dockerfile.

    Args:
        text: its content; bytes are read as UTF-8, and what is no UTF-8 becomes U+FFFD.
        name: how messages call it.

    Raises:
        DockerfileError: with the place and the excerpt.
    """
    source = Source(name, text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
    lexer = Lexer(source, heredoc_marks)
    instructions: list[Instruction] = []
    blank: list[Range] = []
    in_stage = False
    for line in lexer.lines():
        with located(source, line.range):
            cut = statement(line, lexer.escape)
        with located(source, line.range, parsing=True):
            instruction = build(cut)
        if line.blank_inside:
            blank.append(Range(line.blank_inside, line.blank_inside))
        in_stage = in_stage or isinstance(instruction, From)
        if not in_stage and not isinstance(instruction, Arg):
            raise DockerfileError("no build stage in current context", source=source, range=line.range)
        instructions.append(instruction)
    if not instructions:
        count = source.text.count("\n") + 1
        raise DockerfileError("file with no instructions", source=source, range=Range(count, count))
    return Dockerfile(source, lexer.escape, lexer.directives, tuple(instructions), tuple(blank))


def parse_trigger(text: str, parent: Instruction, source: Source) -> Instruction:
    """Parse an ONBUILD trigger of a base image (D23).

    Args:
        text: the trigger as the image configuration holds it.
        parent: the FROM that brought it; it lends its range.
        source: the file of that FROM.

    Raises:
        DockerfileError: the trigger is no single instruction, or one that may not be deferred.
    """
    lexer = Lexer(Source(f"{source.name} (ONBUILD)", text), heredoc_marks)
    with located(source, parent.range):
        try:
            lines = list(lexer.lines())
            if len(lines) != 1:
                raise DockerfileError("onbuild trigger should be a single expression")
            instruction = build(statement(lines[0], lexer.escape))
        except DockerfileError as error:
            raise DockerfileError(f"ONBUILD {text.partition(chr(10))[0]}: {error.message}") from None
        if instruction.NAME in ("ONBUILD", "FROM", "MAINTAINER"):
            raise DockerfileError(f"{instruction.NAME} isn't allowed as an ONBUILD trigger")
    # The trigger's own line numbers mean nothing in this file.
    return replace(instruction, origin=replace(instruction.origin, range=parent.range, comments=(), trigger=True))
