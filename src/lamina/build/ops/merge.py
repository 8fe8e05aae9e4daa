"""`--link`: a layer that was made on its own becomes the next one of a tree (D27).

Its key is made from the keys of both, so that a new base costs a merge and not a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from lamina.build.ops.results import Result, Tree, Trees
from lamina.build.solver.cachekey import make_key
from lamina.build.solver.protocols import Work
from lamina.errors import Internal
from lamina.spec.digest import Digest
from lamina.values import dataclass


@dataclass(frozen=True, slots=True)
class MergeOp:
    """A merge bound to a store."""

    trees: Trees
    cacheable: bool = True
    content_inputs: tuple[int, ...] = ()

    def definition_key(self, inputs: Sequence[Digest]) -> Digest:
        """From what is merged."""
        return make_key("merge", *inputs)

    def content_key(self, _inputs: Sequence[Digest], _contents: Sequence[Result]) -> Digest:
        """Never asked for."""
        raise Internal("a merge is keyed by its inputs")

    def execute(self, inputs: Sequence[Result], _work: Work) -> Result:
        """Merge; onto nothing the layer is the tree."""
        below, layer = (cast("Tree", one) for one in inputs)
        if layer.snapshot is None or below.snapshot is None:
            return below if layer.snapshot is None else layer
        return Tree(self.trees.stack(below.snapshot, layer.snapshot))
