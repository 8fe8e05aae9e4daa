"""`RUN`: a command in the tree of the step before; what it changed becomes the next tree (D09)."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING, Literal, Protocol, cast

from lamina.build.dockerfile.gofmt import quote
from lamina.build.graph.definitions import Exec
from lamina.build.ops.results import Result, Tree, Trees
from lamina.build.solver.cachekey import make_key
from lamina.build.solver.protocols import Work
from lamina.errors import Internal, Invalid, LaminaError
from lamina.spec.digest import Digest
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.runtime.executor import ExecRequest, OutputSink, Stream

_STREAMS = {"stdout": 1, "stderr": 2}


class CommandFailed(Invalid):
    """A `RUN` ended with another code than 0; the message is BuildKit's (D49).

    Attributes:
        argv: the command.
        exit_code: what it ended with.
    """

    def __init__(self, argv: Sequence[str], exit_code: int) -> None:
        super().__init__(f"{_unsuccessful(argv)}: exit code: {exit_code}")
        self.argv, self.exit_code = tuple(argv), exit_code


class CommandRefused(Invalid):
    """A `RUN` did not come to run its command: no such user, a wrong working directory, the runtime's refusal.

    Attributes:
        cause: the refusal.
    """

    def __init__(self, argv: Sequence[str], cause: LaminaError) -> None:
        super().__init__(f"{_unsuccessful(argv)}: {cause.message}", hint=cause.hint)
        self.cause = cause


class Runner(Protocol):
    """The part of `lamina.runtime.executor.Executor` that a step needs."""

    def run(self, request: ExecRequest, on_output: OutputSink, *, cancel: Event | None = None) -> int:
        """Run to the end; the exit code."""
        ...


@dataclass(frozen=True, slots=True)
class RunOp:
    """A command bound to a store and a runtime."""

    definition: Exec
    trees: Trees
    runner: Runner
    cacheable: bool = True
    content_inputs: tuple[int, ...] = ()

    def definition_key(self, inputs: Sequence[Digest]) -> Digest:
        """The command as written, its environment and the tree it runs in (D44)."""
        return make_key(self.definition.definition(), *inputs)

    def content_key(self, _inputs: Sequence[Digest], _contents: Sequence[Result]) -> Digest:
        """Never asked for."""
        raise Internal("a command is keyed by its definition")

    def execute(self, inputs: Sequence[Result], work: Work) -> Result:
        """Run it.

        Raises:
            CommandFailed: with its exit code; 127 when there is no such command, 126 when it cannot be run.
            CommandRefused: it did not begin for another reason.
        """
        from lamina.runtime import oci, rootfs, users  # only when something runs
        from lamina.runtime.bundle import DEFAULT_SHM
        from lamina.runtime.config import parse_ulimit
        from lamina.runtime.executor import ExecRequest

        parent = cast("Tree", inputs[0])
        run = self.definition

        def on_output(stream: Stream, data: bytes) -> None:
            work.log(_STREAMS[stream], data)

        with self.trees.draft(parent.snapshot) as draft:
            request = ExecRequest(
                rootfs=draft.root,
                argv=run.argv,
                env=(*run.env, *run.hidden_env),
                cwd=run.cwd,
                user=run.user,
                hostname=run.hostname,
                network=cast("Literal['default', 'host', 'none']", run.network),
                extra_hosts=tuple(_host(entry) for entry in run.add_hosts),
                shm_size=run.shm_size or DEFAULT_SHM,
                rlimits=tuple(parse_ulimit(text) for text in run.ulimits),
            )
            try:
                code = self.runner.run(request, on_output, cancel=work.cancelled)
            except (oci.CommandNotFound, oci.CommandNotExecutable) as error:
                on_output("stderr", f"{error.message}\n".encode())
                code = error.exit_code
            except (users.NoSuchUser, rootfs.UnsafePath, oci.StartRefused) as error:
                raise CommandRefused(run.argv, error) from error
            if code != 0:
                raise CommandFailed(run.argv, code)
            return Tree(draft.commit())


def _unsuccessful(argv: Sequence[str]) -> str:
    """BuildKit's words; the command is quoted as Go does (`%q`)."""
    return f"process {quote(' '.join(argv))} did not complete successfully"


def _host(entry: str) -> tuple[str, str]:
    """`name:address` or `name=address` of `--add-host`."""
    cut = entry.find("=") if "=" in entry else entry.find(":")
    if cut <= 0:
        raise Invalid(f"bad format for add-host: {entry!r}", hint="write NAME:ADDRESS")
    return entry[:cut], entry[cut + 1 :].strip("[]")
