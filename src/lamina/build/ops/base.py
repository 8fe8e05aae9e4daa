"""Where trees come from: an image of the local store, or nothing (`scratch`), or a local directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lamina.build.graph.definitions import BaseTree, ContextTree
from lamina.build.ops.results import Directory, Result, Tree
from lamina.build.ops.tree import SourceTree
from lamina.build.solver.cachekey import make_key
from lamina.build.solver.protocols import Work
from lamina.errors import Internal
from lamina.spec.digest import Digest
from lamina.values import dataclass


@dataclass(frozen=True, slots=True)
class BaseTreeOp:
    """Gives an image's tree. The chain id is the key: the same layers are the same tree, under whatever name."""

    definition: BaseTree
    snapshot_of: Callable[[Digest], str]
    cacheable: bool = False
    content_inputs: tuple[int, ...] = ()

    def definition_key(self, _inputs: Sequence[Digest]) -> Digest:
        """From the chain id alone."""
        return make_key("base", str(self.definition.chain_id or "scratch"))

    def content_key(self, _inputs: Sequence[Digest], _contents: Sequence[Result]) -> Digest:
        """Never asked for."""
        raise Internal("a base tree has no inputs")

    def execute(self, _inputs: Sequence[Result], _work: Work) -> Result:
        """Find the snapshot."""
        chain = self.definition.chain_id
        return Tree(None if chain is None else self.snapshot_of(chain))


@dataclass(frozen=True, slots=True)
class ContextTreeOp:
    """Gives a local directory. Whoever copies from it is keyed by the content it selects."""

    definition: ContextTree
    open: Callable[[], SourceTree]
    cacheable: bool = False
    content_inputs: tuple[int, ...] = ()

    def definition_key(self, _inputs: Sequence[Digest]) -> Digest:
        """Only a name; copies do not use it."""
        return make_key("context", self.definition.name)

    def content_key(self, _inputs: Sequence[Digest], _contents: Sequence[Result]) -> Digest:
        """Never asked for."""
        raise Internal("a context has no inputs")

    def execute(self, _inputs: Sequence[Result], _work: Work) -> Result:
        """Hand the directory on."""
        return Directory(self.open)
