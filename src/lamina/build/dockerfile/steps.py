"""What a stage does, step by step, with all values expanded: what the planner turns into a graph."""

from __future__ import annotations

from typing import Literal, TypeAlias

from lamina.build.dockerfile.binding import SourceRef
from lamina.build.dockerfile.heredoc import Heredoc
from lamina.build.dockerfile.history import StepHistory
from lamina.build.dockerfile.instructions import Device, Document, Instruction, Mount, Network, Security
from lamina.build.dockerfile.source import Range
from lamina.values import dataclass

SourceKind = Literal["local", "http", "git"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """Common to all steps.

    Attributes:
        instruction: where it comes from, expanded.
        history: its entry, None when it leaves none.
        title: for progress, `RUN make` with known variables filled in; ONBUILD triggers begin `ONBUILD `.
    """

    instruction: Instruction
    history: StepHistory | None
    title: str

    @property
    def range(self) -> Range:
        """Its lines in the Dockerfile."""
        return self.instruction.range


@dataclass(frozen=True, slots=True)
class RunMount:
    """A mount with what it shows: `source` is None for the build context (bind) or for nothing (other types)."""

    mount: Mount
    source: SourceRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep(_Step):
    """Run a command in the tree so far.

    Attributes:
        argv: program and arguments, SHELL in front of a shell form.
        env: the environment in order, PATH always set; part of the cache key.
        proxy_env: proxy variables that no ARG declares; not part of the cache key.
        workdir: absolute.
        user: of USER, "" for root.
        shell: the SHELL in force.
        network: `default`, `none` or `host`.
        security: `sandbox` or `insecure`.
        mounts: with absolute targets.
        devices: CDI devices.
        heredocs: the documents in the command; already part of `argv`.
        script: a heredoc that begins with `#!`: `argv` names it below /dev/pipes, where it has to appear.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    proxy_env: tuple[tuple[str, str], ...] = ()
    workdir: str = "/"
    user: str = ""
    shell: tuple[str, ...] = ()
    network: Network = "default"
    security: Security = "sandbox"
    mounts: tuple[RunMount, ...] = ()
    devices: tuple[Device, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    script: Document | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStep(_Step):
    """Copy files into the tree so far.

    Attributes:
        sources: paths or Go patterns, relative to the root of the source, never leading out of it.
        documents: files whose content stands in the Dockerfile, copied after `sources`.
        dest: absolute; ends in `/` when it has to be a directory.
        source: where from; None is the build context.
        chown: `user[:group]` or "".
        chmod: mode or "".
        link: `--link`.
        parents: `--parents`.
        exclude: patterns.
    """

    sources: tuple[str, ...]
    documents: tuple[Document, ...] = ()
    dest: str
    source: SourceRef | None = None
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AddSource:
    """A source of ADD: `text` is a path as in `CopyStep.sources`, or a URL as written."""

    kind: SourceKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddStep(_Step):
    """Add files, archives or remote content to the tree so far; always from the build context or the network.

    Attributes:
        sources: with their kinds.
        documents: see `CopyStep`.
        dest: see `CopyStep`.
        chown: see `CopyStep`.
        chmod: see `CopyStep`.
        link: `--link`.
        exclude: patterns.
        checksum: what the only source, a remote one, has to match, or "".
        keep_git_dir: `--keep-git-dir`, None when not given.
        unpack: `--unpack`, None when not given: local archives are unpacked, remote ones are not.
    """

    sources: tuple[AddSource, ...]
    documents: tuple[Document, ...] = ()
    dest: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkdirStep(_Step):
    """Make the working directory, with its parents, owned by `user` (mode 0755). There is none for the root itself."""

    path: str
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaStep(_Step):
    """Only the configuration changes."""


Step: TypeAlias = RunStep | CopyStep | AddStep | WorkdirStep | MetaStep


def step_sources(step: Step) -> tuple[SourceRef, ...]:
    """The stages, images and named contexts that a step reads; ONBUILD triggers make these known only here."""
    if isinstance(step, RunStep):
        return tuple(mount.source for mount in step.mounts if mount.source is not None)
    return (step.source,) if isinstance(step, CopyStep) and step.source is not None else ()
