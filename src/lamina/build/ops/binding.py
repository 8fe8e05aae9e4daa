"""From definitions to operations: gives every kind of definition the means it works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lamina.build.graph import definitions
from lamina.build.graph.vertex import Vertex
from lamina.build.ops.base import BaseTreeOp, ContextTreeOp
from lamina.build.ops.copy import CopyOp
from lamina.build.ops.directory import MakeDirectoryOp
from lamina.build.ops.merge import MergeOp
from lamina.build.ops.results import Result, Trees
from lamina.build.ops.run import Runner, RunOp
from lamina.build.ops.tree import SourceTree
from lamina.errors import Internal
from lamina.spec.digest import Digest
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.build.ops.selection import FileDigests
    from lamina.build.solver.protocols import Op


@dataclass(frozen=True, slots=True)
class Means:
    """What the operations of one build work with.

    Attributes:
        trees: where new trees are made.
        runner: runs commands.
        snapshot_of: the snapshot that shows a chain of layers.
        open_context: a fresh view of the build context.
        digests: remembers digests of context files.
        context_copies: all copies from the build context.
        time_ns: modification time of what comes from the context.
    """

    trees: Trees
    runner: Runner
    snapshot_of: Callable[[Digest], str]
    open_context: Callable[[], SourceTree]
    digests: FileDigests | None
    time_ns: int
    context_copies: Sequence[definitions.Copy] = ()

    def operation(self, vertex: Vertex) -> Op[Result]:
        """The operation of a vertex."""
        match vertex.op:
            case definitions.BaseTree() as base:
                return BaseTreeOp(base, self.snapshot_of)
            case definitions.ContextTree() as context:
                return ContextTreeOp(context, self.open_context, self.context_copies, self.digests)
            case definitions.Exec() as run:
                return RunOp(run, self.trees, self.runner)
            case definitions.Copy() as copy:
                return CopyOp(copy, self.trees, self.time_ns, None if copy.keep_owner else self.digests)
            case definitions.Merge():
                return MergeOp(self.trees)
            case definitions.MakeDirectory() as directory:
                return MakeDirectoryOp(directory, self.trees, self.time_ns)
            case other:
                raise Internal(f"no operation for {type(other).__name__}")
