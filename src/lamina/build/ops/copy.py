"""`COPY` and `ADD`: select in a source tree, key by what is selected, write into the destination tree (D24-D30)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from lamina.build.graph.definitions import Copy
from lamina.build.ops.results import Directory, Result, Tree, Trees
from lamina.build.ops.selection import FileDigests, content_digest, select
from lamina.build.ops.tree import SourceTree
from lamina.build.solver.cachekey import make_key
from lamina.build.solver.protocols import Work
from lamina.layer.owners import recorded
from lamina.spec.digest import Digest
from lamina.values import dataclass


@dataclass(frozen=True, slots=True)
class CopyOp:
    """A copy bound to a store.

    Attributes:
        time_ns: modification time of what comes from a context.
        digests: remembers digests of context files; None for other trees.
        on_key: is told when the key is made; a test's or a profiler's eye.
    """

    definition: Copy
    trees: Trees
    time_ns: int
    digests: FileDigests | None = None
    on_key: Callable[[Digest], None] = lambda _digest: None
    cacheable: bool = True
    content_inputs: tuple[int, ...] = (1,)

    def definition_key(self, inputs: Sequence[Digest]) -> Digest | None:
        """From another tree's key; a context has none that says anything."""
        if not self.definition.keep_owner:
            return None
        return make_key("from", self._parameters(), inputs[0], inputs[1])

    def content_key(self, inputs: Sequence[Digest], contents: Sequence[Result]) -> Digest:
        """From the destination tree and exactly what is selected."""
        source = contents[0]
        known = source.selected.get(self.definition) if isinstance(source, Directory) else None
        if isinstance(known, Exception):
            raise known
        if known is None:
            with self._source(source) as tree:
                known = content_digest(tree, self.definition, self.digests)
        self.on_key(known)
        return make_key("content", self._parameters(), inputs[0], known)

    def _parameters(self) -> bytes:
        """The sources' spelling does not matter where their content decides, but their number and names do."""
        return self.definition.definition() + str(self.time_ns).encode()

    def execute(self, inputs: Sequence[Result], work: Work) -> Result:
        """Copy."""
        # What reads archives and writes trees is a third of a cached build's start-up time.
        from lamina.build.ops.copying import copy_into
        from lamina.build.ops.unpack import unpack_archives

        with self.trees.draft(cast("Tree", inputs[0]).snapshot) as draft, self._source(inputs[1]) as tree:
            selected = select(tree, self.definition)
            rest = unpack_archives(draft.root, tree, selected, self.definition, time_ns=self.time_ns)
            copy_into(draft.root, tree, rest, self.definition, time_ns=self.time_ns, cancelled=work.cancelled)
            return Tree(draft.commit())

    @contextmanager
    def _source(self, source: Result) -> Iterator[SourceTree]:
        if isinstance(source, Directory):
            with source.open() as tree:
                yield tree
            return
        with self.trees.view(source.snapshot) as root, SourceTree(root, owners=recorded(root)) as tree:
            yield tree
