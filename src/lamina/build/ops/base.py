"""Where trees come from: an image of the local store, or nothing (`scratch`), or a local directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from lamina.build.graph.definitions import BaseTree, ContextTree, Copy
from lamina.build.ops.results import Directory, Result, Tree
from lamina.build.ops.selection import FileDigests, content_digest
from lamina.build.ops.tree import SourceTree
from lamina.build.solver.cachekey import make_key
from lamina.build.solver.protocols import Work
from lamina.errors import Cancelled, Internal, LaminaError
from lamina.spec.digest import Digest
from lamina.values import dataclass

_TRANSFER: Final = "transferring context:"
_STRIDE: Final = 1 << 20  # bytes between two reports


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
    """Gives a local directory. Whoever copies from it is keyed by the content it selects.

    Attributes:
        copies: all copies of the build that read it; their selections are digested at once, file by file.
        digests: remembers digests of files.
    """

    definition: ContextTree
    open: Callable[[], SourceTree]
    copies: Sequence[Copy] = ()
    digests: FileDigests | None = None
    cacheable: bool = False
    content_inputs: tuple[int, ...] = ()

    def definition_key(self, _inputs: Sequence[Digest]) -> Digest:
        """Only a name; copies do not use it."""
        return make_key("context", self.definition.name)

    def content_key(self, _inputs: Sequence[Digest], _contents: Sequence[Result]) -> Digest:
        """Never asked for."""
        raise Internal("a context has no inputs")

    def execute(self, _inputs: Sequence[Result], work: Work) -> Result:
        """Look at everything that copies select; a copy that cannot be made fails when its own turn comes."""
        selected: dict[Copy, Digest | LaminaError | OSError] = {}
        meter = _Meter(work)
        if self.copies:
            with self.open() as tree:
                for copy in dict.fromkeys(self.copies):
                    try:
                        selected[copy] = content_digest(tree, copy, self.digests, meter.add)
                    except Cancelled:
                        raise
                    except (LaminaError, OSError) as error:
                        selected[copy] = error
        work.progress(_TRANSFER, meter.bytes, True)
        return Directory(self.open, selected)


class _Meter:
    """Adds up what was read of a context, and tells of it once in a while."""

    def __init__(self, work: Work) -> None:
        self._work, self._told, self.bytes = work, 0, 0
        work.progress(_TRANSFER, 0, False)

    def add(self, count: int) -> None:
        """So many bytes more."""
        if self._work.cancelled.is_set():
            raise Cancelled("the build was cancelled")
        self.bytes += count
        if self.bytes - self._told >= _STRIDE:
            self._told = self.bytes
            self._work.progress(_TRANSFER, self.bytes, False)
