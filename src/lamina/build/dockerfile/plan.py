"""From bound stages to a graph: which vertices a build needs, and what its image will say about itself.

Pure but for one question, which image a name means here, that the caller answers. Only stages that the target needs are
looked at, so an unused stage with a bad image does no harm (D46).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from lamina.build.dockerfile.binding import BoundStage, Graph, ImageRef, ScratchRef, SourceRef, StageRef
from lamina.build.dockerfile.checks import check_base_platform, check_ignored
from lamina.build.dockerfile.errors import DockerfileError, located
from lamina.build.dockerfile.history import StepHistory
from lamina.build.dockerfile.ignore import IgnoreMatcher
from lamina.build.dockerfile.lint import Linter
from lamina.build.dockerfile.state import BaseState, StageResult, evaluate
from lamina.build.dockerfile.steps import AddStep, CopyStep, MetaStep, RunStep, Step, WorkdirStep
from lamina.build.graph import definitions
from lamina.build.graph.vertex import Vertex
from lamina.errors import Cancelled, LaminaError
from lamina.spec.config import ImageConfig, RunConfig
from lamina.spec.digest import Digest, chain_ids
from lamina.spec.platform import Platform
from lamina.values import dataclass, replace

#: The context's name in the graph.
CONTEXT: Final = "context"
_LATER: Final = "lamina does not run it yet; see docs/compatibility.md"


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An image that the build starts from or copies from, present in the store.

    Attributes:
        config: its configuration.
        title: its full name, pinned where that is known, for the transcript.
    """

    config: ImageConfig
    title: str

    @property
    def chain_id(self) -> Digest | None:
        """Of all its layers; None when it has none."""
        chain = chain_ids(self.config.diff_ids)
        return chain[-1] if chain else None


#: Answers which image a reference means for a platform.
ImageResolver = Callable[[ImageRef, Platform], BaseImage]


@dataclass(frozen=True, slots=True)
class RunDefaults:
    """What the caller says about all RUN steps.

    Attributes:
        network: for steps that do not name one.
        add_hosts: `name:address` for /etc/hosts.
        shm_size: bytes of /dev/shm, 0 for the default.
        ulimits: resource limits, `name=soft:hard`.
    """

    network: str = "default"
    add_hosts: tuple[str, ...] = ()
    shm_size: int = 0
    ulimits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A build, ready to be solved.

    Attributes:
        tree: the vertex whose tree is the image's.
        base: the image at the bottom, None for `scratch`.
        result: the target stage's configuration.
        history: what the steps add to the base's history, oldest first.
        platform: of the image.
        arguments: the names that an ARG of a planned stage declares, ONBUILD triggers included.
    """

    tree: Vertex
    base: BaseImage | None
    result: StageResult
    history: tuple[StepHistory, ...]
    platform: Platform
    arguments: frozenset[str] = frozenset()


def make_plan(
    graph: Graph,
    resolve: ImageResolver,
    *,
    defaults: RunDefaults | None = None,
    linter: Linter | None = None,
    ignore: IgnoreMatcher | None = None,
) -> Plan:
    """Plan the target stage of a bound file.

    Args:
        graph: from `binding.bind`.
        resolve: answers which image a name means; called once for each name and platform.
        defaults: for RUN steps.
        linter: takes warnings.
        ignore: the context's rules, for warnings about sources that they hide.

    Raises:
        DockerfileError: an instruction cannot be expanded, or asks for what this builder does not do.
    """
    planner = _Planner(graph, resolve, defaults or RunDefaults(), linter or Linter(), ignore)
    stage = planner.stage(graph.target)
    arguments = planner.arguments()
    return Plan(stage.tree, stage.base, stage.result, stage.history, stage.platform, arguments)


@dataclass(frozen=True, slots=True)
class _Planned:
    """One stage, planned."""

    tree: Vertex
    base: BaseImage | None
    result: StageResult
    history: tuple[StepHistory, ...]
    platform: Platform


class _Planner:
    def __init__(
        self,
        graph: Graph,
        resolve: ImageResolver,
        defaults: RunDefaults,
        linter: Linter,
        ignore: IgnoreMatcher | None,
    ) -> None:
        self._ignore = ignore
        self._graph, self._resolve, self._defaults, self._linter = graph, resolve, defaults, linter
        self._source = graph.file.dockerfile.source
        self._stages: dict[int, _Planned] = {}
        self._images: dict[tuple[str, Platform], BaseImage] = {}
        self._many = len(graph.stages) > 1
        self._linked = 0

    def stage(self, index: int) -> _Planned:
        """A stage and, before it, all those it stands on."""
        if index not in self._stages:
            self._stages[index] = self._plan(self._graph.stages[index])
        return self._stages[index]

    def arguments(self) -> frozenset[str]:
        """What the stages planned so far declare."""
        return frozenset(name for planned in self._stages.values() for name in planned.result.args)

    def _plan(self, bound: BoundStage) -> _Planned:
        platform = bound.platform or self._graph.platforms.target
        from_ = bound.stage.from_
        with located(self._source, from_.range):
            below = self._base(bound, platform)
        state = below.result.as_base() if isinstance(bound.base, StageRef) else _base_state(below.base)
        result = evaluate(bound, state, self._graph, linter=self._linter)
        steps = [step for step in result.steps if not isinstance(step, MetaStep)]
        tree = below.tree
        first, total = 1, len(steps)
        if isinstance(bound.base, ImageRef) and below.base is not None:
            # An image below is a step of its own; nothing, or another stage, is not.
            first, total = 2, len(steps) + 1
            title = f"{self._label(bound, 1, total)} FROM {below.base.title}"
            tree = self._vertex(title, definitions.BaseTree(below.base.chain_id), (), from_.range)
        for number, step in enumerate(steps, start=first):
            with located(self._source, step.range):
                tree = self._step(step, tree, bound, f"{self._label(bound, number, total)} {step.title}")
        return _Planned(tree, below.base, result, (*below.history, *result.history), below.platform)

    def _base(self, bound: BoundStage, platform: Platform) -> _Planned:
        empty = StageResult((), RunConfig(), "", {}, workdir_set=False)
        if isinstance(bound.base, StageRef):
            return self.stage(bound.base.index)
        if isinstance(bound.base, ScratchRef):
            scratch = self._scratch(bound.stage.from_.range)
            return _Planned(scratch, None, empty, (), platform)
        if isinstance(bound.base, ImageRef):
            image = self._image(bound.base, platform)
            check_base_platform(bound.stage.from_, image.title, platform, image.config.platform, self._linter)
            tree = self._vertex(image.title, definitions.BaseTree(image.chain_id), (), bound.stage.from_.range)
            return _Planned(tree, image, empty, (), image.config.platform)
        raise DockerfileError(f"named context {bound.base.name!r} cannot be a base", hint=_LATER)

    def _image(self, reference: ImageRef, platform: Platform) -> BaseImage:
        key = (str(reference.reference), platform)
        if key not in self._images:
            try:
                self._images[key] = self._resolve(reference, platform)
            except Cancelled:
                raise
            except LaminaError as error:
                # The place belongs to it: users look for the line that names a missing image.
                what = f"failed to resolve source metadata for {reference.reference}: {error.message}"
                raise DockerfileError(what, hint=error.hint) from error
        return self._images[key]

    def _label(self, bound: BoundStage, number: int, total: int) -> str:
        stage = f"{bound.stage.display} " if self._many else ""
        width = len(str(total))
        return f"[{stage}{number:>{width}}/{total}]"

    def _vertex(self, name: str, op: definitions.Definition, inputs: tuple[Vertex, ...], where: object) -> Vertex:
        return Vertex(name, op, inputs, definition=op.definition(), origin=where)

    def _scratch(self, where: object) -> Vertex:
        return replace(self._vertex("scratch", definitions.BaseTree(None), (), where), shown=False)

    def _step(self, step: Step, tree: Vertex, bound: BoundStage, name: str) -> Vertex:
        if isinstance(step, RunStep):
            return self._vertex(name, self._exec(step), (tree,), step.range)
        if isinstance(step, WorkdirStep):
            return self._vertex(name, definitions.MakeDirectory(step.path, step.user), (tree,), step.range)
        if isinstance(step, CopyStep):
            return self._copy(step, tree, bound, name)
        assert isinstance(step, AddStep)
        return self._add(step, tree, name)

    def _files(
        self, step: CopyStep | AddStep, copy: definitions.Copy, tree: Vertex, source: Vertex, name: str
    ) -> Vertex:
        """A copy into the tree; with `--link` onto nothing, and its layer on top of the tree (D27)."""
        # As in BuildKit, a mode makes it an ordinary copy: files that land behind a link there must do so here.
        if not step.link or step.chmod:
            return self._vertex(name, copy, (tree, source), step.range)
        if any(part and not part.isdecimal() for part in copy.owner.split(":")):
            raise DockerfileError(
                f'invalid user index: -1: with --link "{copy.owner}" cannot be looked up in the image',
                hint="give numbers (--chown=1000:1000), or leave --link out",
            )
        self._linked += 1
        line = f"link {self._linked}"
        scratch = self._scratch(step.range)
        alone = replace(self._vertex(name, copy, (scratch, source), step.range), step=line, last=False)
        return replace(self._vertex(name, definitions.Merge(), (tree, alone), step.range), step=line)

    def _exec(self, step: RunStep) -> definitions.Exec:
        for wanted, what in (
            (step.mounts, "RUN --mount"),
            (step.heredocs or step.script, "a heredoc"),
            (step.security != "sandbox", "RUN --security=insecure"),
            (step.devices, "RUN --device"),
        ):
            if wanted:
                raise DockerfileError(f"{what} is not supported", hint=_LATER)
        network = step.network if step.network != "default" else self._defaults.network
        return definitions.Exec(
            argv=step.argv,
            env=tuple(f"{name}={value}" for name, value in step.env),
            cwd=step.workdir,
            user=step.user,
            network=network,
            hostname=self._graph.build_args.get("BUILDKIT_SANDBOX_HOSTNAME", "buildkitsandbox"),
            add_hosts=self._defaults.add_hosts,
            shm_size=self._defaults.shm_size,
            ulimits=self._defaults.ulimits,
            hidden_env=tuple(f"{name}={value}" for name, value in step.proxy_env),
        )

    def _copy(self, step: CopyStep, tree: Vertex, bound: BoundStage, name: str) -> Vertex:
        if step.documents:
            raise DockerfileError("a heredoc is not supported", hint=_LATER)
        if step.source is None:
            self._check_ignored(step, step.sources)
        copy = definitions.Copy(
            sources=step.sources,
            dest=step.dest,
            owner=step.chown,
            mode=step.chmod,
            exclude=step.exclude,
            parents=step.parents,
            keep_owner=step.source is not None,
        )
        source = self._context() if step.source is None else self._tree_of(step.source, bound)
        return self._files(step, copy, tree, source, name)

    def _add(self, step: AddStep, tree: Vertex, name: str) -> Vertex:
        if step.documents:
            raise DockerfileError("a heredoc is not supported", hint=_LATER)
        if remote := [source.text for source in step.sources if source.kind != "local"]:
            raise DockerfileError(f"ADD from a remote source ({remote[0]}) is not supported", hint=_LATER)
        self._check_ignored(step, [source.text for source in step.sources])
        copy = definitions.Copy(
            sources=tuple(source.text for source in step.sources),
            dest=step.dest,
            owner=step.chown,
            mode=step.chmod,
            exclude=step.exclude,
            unpack=step.unpack is not False,
        )
        return self._files(step, copy, tree, self._context(), name)

    def _check_ignored(self, step: CopyStep | AddStep, sources: Sequence[str]) -> None:
        if self._ignore is not None:
            check_ignored(step.instruction, sources, self._ignore, self._linter)

    def _context(self) -> Vertex:
        return self._vertex("[internal] load build context", definitions.ContextTree(CONTEXT), (), None)

    def _tree_of(self, source: SourceRef, bound: BoundStage) -> Vertex:
        if isinstance(source, StageRef):
            return self.stage(source.index).tree
        if isinstance(source, ImageRef):
            image = self._image(source, bound.platform or self._graph.platforms.target)
            return self._vertex(f"FROM {image.title}", definitions.BaseTree(image.chain_id), (), None)
        if isinstance(source, ScratchRef):
            return self._scratch(None)
        raise DockerfileError(f"named context {source.name!r} cannot be copied from", hint=_LATER)


def _base_state(image: BaseImage | None) -> BaseState:
    return BaseState.scratch() if image is None else BaseState(image.config.config, image.config.author)
