"""Evaluating a stage: from its instructions and the configuration it starts with to steps and the new configuration.

Features D07-D09, D16-D23, D36-D40, D47. Pure: the same arguments give the same steps.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any, Final

from lamina.build.dockerfile import history, lint
from lamina.build.dockerfile.arguments import INVISIBLE, proxy_environment
from lamina.build.dockerfile.binding import BoundStage, Graph
from lamina.build.dockerfile.checks import check_secret_name
from lamina.build.dockerfile.errors import DockerfileError, located
from lamina.build.dockerfile.expand import Mode, expand
from lamina.build.dockerfile.gofmt import plain_list, quote
from lamina.build.dockerfile.heredoc import parse_mark
from lamina.build.dockerfile.history import StepHistory
from lamina.build.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Document,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    Transfer,
    User,
    Volume,
    Workdir,
)
from lamina.build.dockerfile.lint import Linter, Rule
from lamina.build.dockerfile.match import clean_path
from lamina.build.dockerfile.parser import parse_trigger
from lamina.build.dockerfile.ports import parse_ports, port_key
from lamina.build.dockerfile.remote import source_kind
from lamina.build.dockerfile.signals import signal_number
from lamina.build.dockerfile.steps import AddSource, AddStep, CopyStep, MetaStep, RunMount, RunStep, Step, WorkdirStep
from lamina.build.dockerfile.suggest import did_you_mean
from lamina.build.dockerfile.variables import Variables
from lamina.spec.config import RunConfig
from lamina.values import dataclass, field, replace

DEFAULT_SHELL: Final = ("/bin/sh", "-c")
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SCRIPTS_DIR: Final = "/dev/pipes"
_MASK: Final = "****"


@dataclass(frozen=True, slots=True)
class BaseState:
    """What a stage starts with.

    Attributes:
        config: of the base image; `on_build` holds the triggers to run.
        author: of the base image.
        args: ARGs of the stage that this one is built from (D37); empty for an image.
        workdir_set: whether a WORKDIR of this file is in force.
    """

    config: RunConfig = field(default_factory=RunConfig)
    author: str = ""
    args: Mapping[str, str | None] = field(default_factory=dict)
    workdir_set: bool = False

    @classmethod
    def scratch(cls) -> BaseState:
        """`FROM scratch`: a PATH and the root as working directory, nothing else."""
        return cls(RunConfig(env=(f"PATH={DEFAULT_PATH}",), working_dir="/"))


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage does and becomes.

    Attributes:
        steps: in order, ONBUILD triggers of the base first.
        config: the configuration afterwards.
        author: of the image.
        args: ARGs in force at the end.
        workdir_set: see `BaseState`.
    """

    steps: tuple[Step, ...]
    config: RunConfig
    author: str
    args: Mapping[str, str | None]
    workdir_set: bool

    @property
    def history(self) -> tuple[StepHistory, ...]:
        """The entries that the steps add to the history of the base."""
        return tuple(step.history for step in self.steps if step.history is not None)

    def as_base(self) -> BaseState:
        """What a stage built FROM this one starts with."""
        return BaseState(self.config, self.author, self.args, self.workdir_set)


def evaluate(bound: BoundStage, base: BaseState, graph: Graph, *, linter: Linter | None = None) -> StageResult:
    """Evaluate one stage.

    Args:
        bound: the stage; when it is `replaced`, neither its instructions nor triggers are looked at.
        base: what it starts with.
        graph: the build that it belongs to.
        linter: takes the warnings.

    Raises:
        DockerfileError: an expansion failed, or its result is not valid; with the place.
    """
    evaluator = _Evaluator(bound, base, graph, linter or Linter())
    source = graph.file.dockerfile.source
    if not bound.replaced:
        triggers = [parse_trigger(text, bound.stage.from_, source) for text in base.config.on_build]
        for instruction in (*triggers, *bound.stage.instructions):
            with located(source, instruction.range):
                evaluator.step(instruction)
    return evaluator.result()


class _Evaluator:
    """The state of a stage between two instructions."""

    def __init__(self, bound: BoundStage, base: BaseState, graph: Graph, linter: Linter) -> None:
        self._stage = bound.stage
        self._graph = graph
        self._linter = linter
        self._author = base.author
        self._workdir_set = base.workdir_set
        # Triggers run once and are not inherited any further (D23).
        self._config = replace(base.config, on_build=())
        environment = base.config.environment()
        environment.setdefault("PATH", DEFAULT_PATH)
        escape = graph.file.dockerfile.escape
        self._variables = Variables(environment, base.args, escape=escape)
        self._workdir = clean_path(posixpath.join("/", base.config.working_dir))
        self._steps: list[Step] = []
        self._title = ""
        self._set_here: dict[str, Instruction] = {}
        self._handlers: dict[type[Instruction], Callable[[Any], None]] = {
            Add: self._add,
            Arg: self._arg,
            Cmd: self._cmd,
            Copy: self._copy,
            Entrypoint: self._entrypoint,
            Env: self._env,
            Expose: self._expose,
            HealthCheck: self._health_check,
            Label: self._label,
            Maintainer: self._maintainer,
            OnBuild: self._on_build,
            Run: self._run,
            Shell: self._shell,
            StopSignal: self._stop_signal,
            User: self._user,
            Volume: self._volume,
            Workdir: self._do_workdir,
        }

    def step(self, instruction: Instruction) -> None:
        """Evaluate one instruction."""

        def unset(names: list[str]) -> None:
            for name in names:
                if name not in INVISIBLE:
                    self._warn(lint.UNDEFINED_VAR, instruction, name, self._nearest(name))

        self._variables.on_unset = unset
        expanded = instruction.expanded(self._variables)
        self._title = self._make_title(expanded)
        self._handlers[type(instruction)](expanded)

    def result(self) -> StageResult:
        """The outcome so far."""
        config = replace(self._config, env=tuple(f"{name}={value}" for name, value in self._variables.env.items()))
        return StageResult(tuple(self._steps), config, self._author, dict(self._variables.args), self._workdir_set)

    # -- arguments and environment

    def _arg(self, instruction: Arg) -> None:
        graph, texts = self._graph, []
        for pair in instruction.pairs:
            check_secret_name(instruction, pair.name, self._linter)
            value = graph.build_args.get(pair.name)
            if value is None and pair.default is None:
                value = graph.global_args.get(pair.name)
            elif value is None and pair.default is not None:
                value = self._variables.word(pair.default)
            texts.append(pair.name if value is None else f"{pair.name}={value}")
            self._variables.declare(pair.name, None if pair.name in INVISIBLE else value)
        self._meta(instruction, history.metadata(f"ARG {' '.join(texts)}", self._shell_words))

    def _env(self, instruction: Env) -> None:
        for pair in instruction.pairs:
            if pair.legacy:
                self._warn(lint.LEGACY_KEY_VALUE_FORMAT, instruction, "ENV")
            check_secret_name(instruction, pair.key, self._linter)
        self._variables.set_env((pair.key, pair.value) for pair in instruction.pairs)
        self._meta(instruction, history.metadata(f"ENV {' '.join(map(str, instruction.pairs))}", self._shell_words))

    def _label(self, instruction: Label) -> None:
        if any(pair.legacy for pair in instruction.pairs):
            self._warn(lint.LEGACY_KEY_VALUE_FORMAT, instruction, "LABEL")
        labels = {**self._config.labels, **{pair.key: pair.value for pair in instruction.pairs}}
        self._edit(labels=labels)
        self._meta(instruction, history.metadata(f"LABEL {' '.join(map(str, instruction.pairs))}", self._shell_words))

    # -- what a container does

    def _cmd(self, instruction: Cmd) -> None:
        argv = self._argv_of(instruction, instruction.command)
        self._once(instruction)
        self._edit(cmd=argv, args_escaped=True)
        self._meta(instruction, history.command("CMD", argv, self._shell_words))

    def _entrypoint(self, instruction: Entrypoint) -> None:
        argv = self._argv_of(instruction, instruction.command)
        self._once(instruction)
        self._edit(entrypoint=argv or None)
        if "CMD" not in self._set_here:
            # A CMD of the base was made for the base's entrypoint (D16).
            self._edit(cmd=None)
        self._meta(instruction, history.command("ENTRYPOINT", argv, self._shell_words))

    def _shell(self, instruction: Shell) -> None:
        self._edit(shell=instruction.words)
        self._meta(instruction, history.metadata(f"SHELL {plain_list(instruction.words)}", self._shell_words))

    def _health_check(self, instruction: HealthCheck) -> None:
        self._once(instruction)
        self._edit(healthcheck=instruction.health)
        self._meta(instruction, history.health_check(instruction.health, self._shell_words))

    def _user(self, instruction: User) -> None:
        self._edit(user=instruction.user)
        self._meta(instruction, history.metadata(f"USER {instruction.user}", self._shell_words))

    def _stop_signal(self, instruction: StopSignal) -> None:
        signal_number(instruction.signal)
        self._edit(stop_signal=instruction.signal)
        self._meta(instruction, history.metadata(f"STOPSIGNAL {instruction.signal}", self._shell_words))

    def _expose(self, instruction: Expose) -> None:
        found: list[str] = []
        for text in instruction.ports:
            ports = parse_ports(text)
            if ports.odd_case:
                self._warn(lint.EXPOSE_PROTO_CASING, instruction, text)
            if ports.published:
                self._warn(lint.EXPOSE_INVALID_FORMAT, instruction, text)
            found += ports.ports
        self._edit(exposed_ports=tuple(sorted({*self._config.exposed_ports, *found})))
        self._meta(instruction, history.expose(sorted(set(found), key=port_key), self._shell_words))

    def _volume(self, instruction: Volume) -> None:
        self._edit(volumes=tuple(sorted({*self._config.volumes, *instruction.paths})))
        self._meta(instruction, history.metadata(f"VOLUME {plain_list(instruction.paths)}", self._shell_words))

    def _maintainer(self, instruction: Maintainer) -> None:
        self._author = instruction.author
        self._meta(instruction, history.metadata(f"MAINTAINER {instruction.author}", self._shell_words))

    def _on_build(self, instruction: OnBuild) -> None:
        self._edit(on_build=(*self._config.on_build, instruction.trigger))
        self._meta(instruction, None)

    # -- what makes layers

    def _do_workdir(self, instruction: Workdir) -> None:
        if not self._workdir_set and not instruction.path.startswith("/"):
            self._warn(lint.WORKDIR_RELATIVE_PATH, instruction, quote(instruction.path))
        self._workdir_set = True
        self._workdir = clean_path(posixpath.join(self._workdir, instruction.path))
        self._edit(working_dir=self._workdir)
        entry = history.workdir(self._workdir, self._shell_words)
        if self._workdir == "/":
            self._meta(instruction, entry)
            return
        self._steps.append(
            WorkdirStep(
                instruction=instruction,
                history=entry,
                title=self._title,
                path=self._workdir,
                user=self._config.user,
            )
        )

    def _run(self, instruction: Run) -> None:
        command, script = _with_heredocs(instruction.command)
        argv = command.argv(self._shell_words)
        mounts, agents = [], 0
        for mount in instruction.mounts:
            source = self._graph.source(instruction, mount.source_stage, self._stage)
            mounts.append(RunMount(mount.placed(self._workdir, agents), source))
            agents += mount.type == "ssh"
        proxies = proxy_environment(self._graph.build_args)
        visible = self._variables.visible()
        self._steps.append(
            RunStep(
                instruction=instruction,
                history=history.run(argv, self._variables.arguments()),
                title=self._title,
                argv=argv,
                env=tuple(visible.items()),
                proxy_env=tuple((name, value) for name, value in proxies if name not in visible),
                workdir=self._workdir,
                user=self._config.user,
                shell=self._shell_words,
                network=instruction.network,
                security=instruction.security,
                mounts=tuple(mounts),
                devices=instruction.devices,
                heredocs=instruction.command.heredocs,
                script=script,
            )
        )

    def _copy(self, instruction: Copy) -> None:
        for source in instruction.sources:
            kind = source_kind(source)
            if kind != "local":
                what = "URL" if kind == "http" else "git ref"
                raise DockerfileError(f"source can't be a {what} for COPY", hint="use ADD for remote sources")
        self._steps.append(
            CopyStep(
                instruction=instruction,
                history=self._files_history(instruction, parents=instruction.parents),
                title=self._title,
                sources=tuple(_inside(source, pivots=instruction.parents) for source in instruction.sources),
                documents=instruction.documents,
                dest=self._destination(instruction.dest),
                source=self._graph.source(instruction, instruction.source_stage, self._stage),
                chown=instruction.chown,
                chmod=instruction.chmod,
                link=instruction.link,
                parents=instruction.parents,
                exclude=instruction.exclude,
            )
        )

    def _add(self, instruction: Add) -> None:
        sources = []
        for text in instruction.sources:
            kind = source_kind(text)
            sources.append(AddSource(kind, _inside(text) if kind == "local" else text))
        if instruction.checksum:
            if len(sources) != 1 or instruction.documents:
                raise DockerfileError("checksum can't be specified for multiple sources")
            if sources[0].kind == "local":
                raise DockerfileError("checksum requires HTTP(S) or Git sources")
        self._steps.append(
            AddStep(
                instruction=instruction,
                history=self._files_history(instruction, parents=False),
                title=self._title,
                sources=tuple(sources),
                documents=instruction.documents,
                dest=self._destination(instruction.dest),
                chown=instruction.chown,
                chmod=instruction.chmod,
                link=instruction.link,
                exclude=instruction.exclude,
                checksum=instruction.checksum,
                keep_git_dir=instruction.keep_git_dir,
                unpack=instruction.unpack,
            )
        )

    # -- parts

    @property
    def _shell_words(self) -> tuple[str, ...]:
        return self._config.shell or DEFAULT_SHELL

    def _edit(self, **changes: Any) -> None:
        self._config = replace(self._config, **changes)

    def _meta(self, instruction: Instruction, entry: StepHistory | None) -> None:
        self._steps.append(MetaStep(instruction=instruction, history=entry, title=self._title))

    def _once(self, instruction: Instruction) -> None:
        """Warn about the earlier one of two, which has no effect."""
        earlier = self._set_here.get(instruction.NAME)
        if earlier is not None:
            self._warn(lint.MULTIPLE_INSTRUCTIONS_DISALLOWED, earlier, instruction.NAME)
        self._set_here[instruction.NAME] = instruction

    def _argv_of(self, instruction: Instruction, command: CommandLine) -> tuple[str, ...]:
        if command.shell_form and not self._config.shell:
            self._warn(lint.JSON_ARGS_RECOMMENDED, instruction, instruction.NAME)
        return command.argv(self._shell_words)

    def _files_history(self, instruction: Transfer, *, parents: bool) -> StepHistory:
        sources = (*instruction.sources, *(f"<<{document.name}" for document in instruction.documents))
        chown, chmod = instruction.chown, instruction.chmod
        return history.files(
            instruction.NAME, sources, instruction.dest, self._shell_words, chown=chown, chmod=chmod, parents=parents
        )

    def _destination(self, path: str) -> str:
        """The absolute destination; a slash at the end, or `.`, stays as "this is a directory"."""
        cleaned = clean_path(posixpath.join(self._workdir, path))
        directory = path in ("", ".", "..") or path.endswith(("/", "/.", "/.."))
        return f"{cleaned}/" if directory and cleaned != "/" else cleaned

    def _make_title(self, instruction: Instruction) -> str:
        keyword, _, rest = instruction.origin.text.partition(" ")
        mode = Mode(self._graph.file.dockerfile.escape, keep_quotes=True, keep_escapes=True, keep_unset=True)
        mounts = instruction.mounts if isinstance(instruction, Run) else ()
        masked = {mount.env: _MASK for mount in mounts if mount.env}
        try:
            rest = expand(rest, {**self._variables.visible(), **masked}, mode).text
        except DockerfileError:
            pass  # shell text may be no word; it is shown as it is
        trigger = "ONBUILD " if instruction.origin.trigger else ""
        return f"{trigger}{keyword.upper()} {rest}".rstrip()

    def _nearest(self, name: str) -> str:
        return did_you_mean(name, self._variables.visible()).replace("did you mean ", "did you mean $")

    def _warn(self, rule: Rule, instruction: Instruction, *particulars: str) -> None:
        self._linter.warn(rule, instruction.range, *particulars, comments=instruction.origin.comments)


def _inside(source: str, *, pivots: bool = False) -> str:
    """A source path, clamped to the root of where it comes from; a trailing slash means nothing to it."""
    pivot, dot, rest = source.partition("/./")
    if pivots and dot and rest:
        # `--parents` keeps what follows the pivot, so it must survive cleaning (D28).
        return f"{clean_path('/' + pivot)[1:] or '.'}/./{clean_path('/' + rest)[1:]}"
    return clean_path("/" + source)[1:] or "."


def _with_heredocs(command: CommandLine) -> tuple[CommandLine, Document | None]:
    """Put heredocs into the command (D33): a lone one is the script, others are the shell's to read."""
    if not command.heredocs:
        return command, None
    line = command.words[0]
    if parse_mark(line) is None:
        text = line + "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in command.heredocs)
        return CommandLine((text,), shell_form=True), None
    heredoc = command.heredocs[0]
    if not heredoc.body.startswith("#!"):
        return CommandLine((heredoc.body,), shell_form=True), None
    path = posixpath.join(SCRIPTS_DIR, heredoc.name)
    return CommandLine((path,), shell_form=True), Document(heredoc.name, heredoc.body, expands=False)
