"""Stages: the sections of a Dockerfile that begin at FROM, and finding them by name (features D06, D25, D46)."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.gofmt import quote
from lamina.build.dockerfile.instructions import Arg, From, Instruction
from lamina.build.dockerfile.parser import Dockerfile
from lamina.build.dockerfile.suggest import did_you_mean
from lamina.values import dataclass

_INDEX = re.compile(r"[+-]?\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Attributes:
        index: its position, from 0.
        from_: its FROM.
        instructions: what follows, without FROM.
    """

    index: int
    from_: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """The name given with AS in lower case, or ""."""
        return self.from_.alias

    @property
    def display(self) -> str:
        """The name, or `stage-0` and so on."""
        return self.from_.alias or f"stage-{self.index}"


@dataclass(frozen=True, slots=True)
class Stages:
    """All stages of a file.

    Attributes:
        dockerfile: the file.
        global_args: the ARGs before the first FROM.
        all: the stages in order, at least one.
        by_name: indexes of the stages of each name, ascending.
    """

    dockerfile: Dockerfile
    global_args: tuple[Arg, ...]
    all: tuple[Stage, ...]
    by_name: Mapping[str, tuple[int, ...]]

    def __getitem__(self, index: int) -> Stage:
        return self.all[index]

    def __len__(self) -> int:
        return len(self.all)

    @property
    def names(self) -> list[str]:
        """What stages can be called in a suggestion."""
        return [stage.display for stage in self.all]

    def named(self, name: str, *, before: int | None = None) -> Stage | None:
        """The last stage of a name, in any case; of those before an index when one is given."""
        indexes = self.by_name.get(name.lower(), ())
        position = len(indexes) if before is None else bisect_left(indexes, before)
        return self.all[indexes[position - 1]] if position else None

    def target(self, name: str) -> Stage:
        """The stage that `--target` asks for: a name in any case, an index, or "" for the last one.

        Raises:
            DockerfileError: there is none.
        """
        if not name:
            return self.all[-1]
        stage = self.named(name)
        if stage is None and (index := stage_index(name)) is not None and 0 <= index < len(self.all):
            stage = self.all[index]
        if stage is None:
            suggestion = did_you_mean(name, self.names)
            raise DockerfileError(
                f"target stage {quote(name)} could not be found{suggestion}",
                hint=f"stages of {self.dockerfile.source.name}: {', '.join(self.names)}",
            )
        return stage


def stages(dockerfile: Dockerfile) -> Stages:
    """Group the instructions of a file.

    Raises:
        DockerfileError: there is no FROM.
    """
    instructions = dockerfile.instructions
    starts = [i for i, instruction in enumerate(instructions) if isinstance(instruction, From)]
    if not starts:
        raise DockerfileError(
            "dockerfile contains no stages to build",
            source=dockerfile.source,
            range=instructions[-1].range,
            hint="add a FROM instruction",
        )
    found = []
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], len(instructions)], strict=True)):
        from_ = instructions[start]
        assert isinstance(from_, From)
        found.append(Stage(index, from_, instructions[start + 1 : end]))
    by_name: dict[str, tuple[int, ...]] = {}
    for stage in found:
        if stage.name:
            by_name[stage.name] = (*by_name.get(stage.name, ()), stage.index)
    return Stages(dockerfile, _args(instructions[: starts[0]]), tuple(found), by_name)


def stage_index(text: str) -> int | None:
    """The number that a COPY --from may be; None when the text is a name."""
    return int(text) if _INDEX.fullmatch(text) else None


def _args(instructions: Iterable[Instruction]) -> tuple[Arg, ...]:
    return tuple(instruction for instruction in instructions if isinstance(instruction, Arg))
