"""Binding: what every FROM, COPY --from and RUN --mount=from means in one build, and what has to be built.

Features D06, D25, D37-D39, D46. A stage's base and its sources become references; nothing is resolved or fetched here,
so an unreachable stage with a bad image does no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

from lamina.build.dockerfile import lint
from lamina.build.dockerfile.arguments import Platforms, global_scope
from lamina.build.dockerfile.errors import DockerfileError, located
from lamina.build.dockerfile.expand import Expansion, Mode, expand
from lamina.build.dockerfile.gofmt import quote
from lamina.build.dockerfile.instructions import Copy, From, Instruction, Run
from lamina.build.dockerfile.lint import Linter
from lamina.build.dockerfile.stages import Stage, Stages, stage_index
from lamina.build.dockerfile.suggest import did_you_mean
from lamina.errors import Invalid
from lamina.spec.platform import Platform
from lamina.spec.reference import InvalidReference, Reference
from lamina.values import dataclass

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class ScratchRef:
    """An empty tree."""


@dataclass(frozen=True, slots=True)
class StageRef:
    """Another stage of the file, by its index."""

    index: int


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image; `written` is how the file names it."""

    reference: Reference
    written: str


@dataclass(frozen=True, slots=True)
class ContextRef:
    """A named context (`--build-context`), by the name under which the caller gave it."""

    name: str


SourceRef: TypeAlias = ScratchRef | StageRef | ImageRef | ContextRef


@dataclass(frozen=True, slots=True)
class BoundStage:
    """A stage with its base.

    Attributes:
        stage: the stage as written.
        base: what it starts from. A `ContextRef` that replaces the whole stage has `replaced` set: nothing of the
            stage's own instructions is run then.
        platform: of `FROM --platform`, None when not given.
        replaced: see `base`.
    """

    stage: Stage
    base: SourceRef
    platform: Platform | None = None
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """All stages of one build.

    Attributes:
        stages: by index.
        target: index of the stage to build.
        file: the stages as written.
        global_args: the variables of the global scope, which a stage imports with ARG.
        build_args: `--build-arg` as given.
        contexts: names of the named contexts.
        platforms: the build's platforms.
    """

    stages: tuple[BoundStage, ...]
    target: int
    file: Stages
    global_args: Mapping[str, str]
    build_args: Mapping[str, str]
    contexts: Collection[str]
    platforms: Platforms

    def source(self, instruction: Instruction, name: str, stage: Stage) -> SourceRef | None:
        """What a `--from` of COPY or a `from=` of RUN --mount means.

        Args:
            instruction: the COPY or RUN, also one from an ONBUILD trigger.
            name: what it names; "" is the build context.
            stage: where it stands.

        Returns:
            None for the build context.

        Raises:
            DockerfileError: an index out of range, a stage that comes later, or no valid image name.
        """
        if not name:
            return None
        index = stage_index(name) if isinstance(instruction, Copy) else None
        if index is not None:
            return self._indexed(index, stage)
        found = self.file.named(name, before=stage.index)
        if found is not None:
            return StageRef(found.index)
        if self.file.named(name) is not None:
            raise _too_early(instruction, name, stage)
        return _reference(name, self.contexts)

    def dependencies(self, index: int) -> list[int]:
        """The stages that a stage needs by its FROM and its own instructions, ascending; triggers are not in it.

        Raises:
            DockerfileError: as `source`.
        """
        bound = self.stages[index]
        found = {bound.base.index} if isinstance(bound.base, StageRef) else set()
        for instruction in () if bound.replaced else bound.stage.instructions:
            with located(self.file.dockerfile.source, instruction.range):
                for name in source_names(instruction):
                    reference = self.source(instruction, name, bound.stage)
                    if isinstance(reference, StageRef):
                        found.add(reference.index)
        return sorted(found)

    def reachable(self) -> list[int]:
        """The stages that the target needs, itself last, each after those that it depends on (D46).

        ONBUILD triggers may add to it once base images are known.
        """
        wanted = {self.target}
        for index in range(self.target, -1, -1):  # stages depend on earlier ones only
            if index in wanted:
                wanted.update(self.dependencies(index))
        return sorted(wanted)

    def _indexed(self, index: int, stage: Stage) -> StageRef:
        if not 0 <= index < len(self.stages):
            raise DockerfileError(f"invalid stage index {index}")
        if index == stage.index:
            raise DockerfileError(f"circular dependency detected on stage: {stage.display}")
        if index > stage.index:
            raise DockerfileError(
                f'cannot copy from stage "{index}", it needs to be defined before current stage {quote(stage.display)}'
            )
        return StageRef(index)


def source_names(instruction: Instruction) -> list[str]:
    """The names in the `--from` and `from=` of an instruction."""
    if isinstance(instruction, Copy):
        return [instruction.source_stage] if instruction.source_stage else []
    if isinstance(instruction, Run):
        return [spec.source_stage for spec in instruction.mount_specs if spec.source_stage]
    return []


def bind(
    file: Stages,
    platforms: Platforms,
    *,
    target: str = "",
    build_args: Mapping[str, str] | None = None,
    contexts: Collection[str] = (),
    linter: Linter | None = None,
) -> Graph:
    """Bind the stages of a file for one build.

    Args:
        file: the stages.
        platforms: builder and target.
        target: `--target`: name, index, or "" for the last stage.
        build_args: `--build-arg`.
        contexts: names of the `--build-context` options, without `default`.
        linter: takes the warnings about FROM lines.

    Raises:
        DockerfileError: no such target, a base that is blank or no valid name, a bad platform, or stages that depend on
            each other.
    """
    given = build_args or {}
    linter = linter or Linter()
    chosen = file.target(target)
    automatic = platforms.arguments(target or chosen.name)
    source, escape = file.dockerfile.source, file.dockerfile.escape
    _check_defaults(file, automatic, linter)
    scope = global_scope(file.global_args, automatic, given, source, escape)
    declared = {*scope, *(pair.name for arg in file.global_args for pair in arg.pairs)}
    bound = []
    for stage in file.all:
        with located(source, stage.from_.range):
            bound.append(_bind_stage(stage, file, scope, contexts, declared, linter))
    _check_cycles(file)
    return Graph(tuple(bound), chosen.index, file, scope, given, contexts, platforms)


def _bind_stage(
    stage: Stage,
    file: Stages,
    scope: Mapping[str, str],
    contexts: Collection[str],
    declared: Collection[str],
    linter: Linter,
) -> BoundStage:
    from_ = stage.from_
    mode = Mode(file.dockerfile.escape)
    base = expand(from_.base, scope, mode)
    _check_declared(from_, base, declared, linter)
    if not base.text:
        raise DockerfileError(f"base name ({from_.base}) should not be blank{_nearby(base, scope)}")
    platform = _platform(from_, scope, declared, mode, linter) if from_.platform else None
    replacement = _context(stage.name, contexts) if stage.name else None
    if replacement is not None:
        return BoundStage(stage, replacement, platform, replaced=True)
    earlier = file.named(base.text, before=stage.index)
    if earlier is not None:
        return BoundStage(stage, StageRef(earlier.index), platform)
    return BoundStage(stage, _reference(base.text, contexts), platform)


def _platform(from_: From, scope: Mapping[str, str], declared: Collection[str], mode: Mode, linter: Linter) -> Platform:
    expansion = expand(from_.platform, scope, mode)
    _check_declared(from_, expansion, declared, linter)
    if not expansion.text:
        raise DockerfileError(f"empty platform value from expression {from_.platform}{_nearby(expansion, scope)}")
    try:
        platform = Platform.parse(expansion.text)
    except Invalid as error:
        raise DockerfileError(
            f"failed to parse platform {from_.platform}: {error.message}{_nearby(expansion, scope)}"
        ) from None
    used = expansion.matched | expansion.unmatched
    if expansion.matched == {"TARGETPLATFORM"} == used and expansion.text == scope.get("TARGETPLATFORM"):
        _warn(linter, lint.REDUNDANT_TARGET_PLATFORM, from_, from_.platform)
    if not used and platform.os not in from_.alias and platform.architecture not in from_.alias:
        _warn(linter, lint.FROM_PLATFORM_FLAG_CONST_DISALLOWED, from_, quote(expansion.text))
    return platform


def _reference(name: str, contexts: Collection[str]) -> SourceRef:
    """What a name means that is no stage."""
    if name == SCRATCH:
        return ScratchRef()
    context = _context(name, contexts)
    if context is not None:
        return context
    try:
        return ImageRef(Reference.parse(name).tagged(), name)
    except InvalidReference as error:
        raise DockerfileError(f"failed to parse stage name {quote(name)}: {error.message}") from None


def _context(name: str, contexts: Collection[str]) -> ContextRef | None:
    """The named context of this name; image names are compared in full, so `alpine` is also `alpine:latest`."""
    if not contexts or name.lower() == SCRATCH:
        return None
    for context in contexts:
        if context.lower() == name.lower():
            return ContextRef(context)
    wanted = _normal(name)
    for context in contexts:
        if wanted is not None and _normal(context) == wanted:
            return ContextRef(context)
    return None


def _normal(name: str) -> Reference | None:
    try:
        return Reference.parse(name).tagged()
    except InvalidReference:
        return None


def _too_early(instruction: Instruction, name: str, stage: Stage) -> DockerfileError:
    if stage.name == name.lower():
        return DockerfileError(f"circular dependency detected on stage: {stage.display}")
    if isinstance(instruction, Run):
        return DockerfileError(
            f"cannot mount from stage {quote(name)}, stage needs to be defined before current command"
        )
    return DockerfileError(
        f"cannot copy from stage {quote(name)}, it needs to be defined before current stage {quote(stage.display)}"
    )


def _check_cycles(file: Stages) -> None:
    """Stages that copy from each other are named as such, before one is blamed for coming too late."""
    edges = {
        stage.index: {
            found.index
            for instruction in stage.instructions
            for name in source_names(instruction)
            if (found := _anywhere(file, instruction, name, stage))
        }
        for stage in file.all
    }
    # Without a cycle, taking away stages without edges again and again leaves none.
    left = dict(edges)
    while free := [index for index, needs in left.items() if not needs & left.keys()]:
        for index in free:
            del left[index]
    if left:
        stage = file[min(index for index in left if _returns(index, left))]
        raise DockerfileError(
            f"circular dependency detected on stage: {stage.display}",
            source=file.dockerfile.source,
            range=stage.from_.range,
        )


def _returns(start: int, edges: Mapping[int, set[int]]) -> bool:
    """Whether a stage needs itself."""
    seen: set[int] = set()
    todo = [start]
    while todo:
        for index in edges.get(todo.pop(), set()) - seen:
            if index == start:
                return True
            seen.add(index)
            todo.append(index)
    return False


def _anywhere(file: Stages, instruction: Instruction, name: str, stage: Stage) -> Stage | None:
    index = stage_index(name) if isinstance(instruction, Copy) else None
    if index is not None:
        return file[index] if 0 <= index < len(file) else None
    return file.named(name, before=stage.index) or file.named(name)


def _check_declared(from_: From, expansion: Expansion, declared: Collection[str], linter: Linter) -> None:
    for name in sorted(expansion.unmatched):
        if name not in declared:
            _warn(linter, lint.UNDEFINED_ARG_IN_FROM, from_, name, did_you_mean(name, declared))


def _nearby(expansion: Expansion, scope: Mapping[str, str]) -> str:
    return next((text for name in sorted(expansion.unmatched) if (text := did_you_mean(name, scope))), "")


def _check_defaults(file: Stages, automatic: Mapping[str, str], linter: Linter) -> None:
    """Warn about bases that are valid only with build arguments."""
    try:
        scope = global_scope(file.global_args, automatic, {}, file.dockerfile.source, file.dockerfile.escape)
        names = [expand(stage.from_.base, scope, Mode(file.dockerfile.escape)).text for stage in file.all]
    except DockerfileError:
        return  # reported by the binding itself, or mended by build arguments
    for stage, name in zip(file.all, names, strict=True):
        if _normal(name) is None:
            _warn(linter, lint.INVALID_DEFAULT_ARG_IN_FROM, stage.from_, stage.from_.base)


def _warn(linter: Linter, rule: lint.Rule, from_: From, *particulars: str) -> None:
    linter.warn(rule, from_.range, *particulars, comments=from_.origin.comments)
