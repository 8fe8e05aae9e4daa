"""Vertices: what is to be done, to which inputs, under which name.

A vertex is a value. Its digest covers its operation and its inputs' digests, so the same work asked for twice (two
stages with the same prefix, say) is one vertex. The operation itself is opaque here: the solver is given a resolver
that turns it into something that runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lamina.spec.digest import Digest
from lamina.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Vertex:
    """One node of the graph.

    Attributes:
        name: what people read in the transcript (`[build 2/4] RUN make`).
        op: the operation, opaque to graph and solver.
        inputs: the vertices whose results it needs, in the operation's order.
        definition: bytes that identify the operation apart from its inputs.
        origin: where it was asked for (a line range of a Dockerfile), for errors; opaque here.
        ignore_cache: always execute, though the result may serve later builds.
        step: the line of the transcript that it belongs to; "" for one of its own.
        shown: whether it has a line at all; the empty tree of `scratch` has none.
        last: whether that line ends with this vertex. What one instruction asks for may take several.
    """

    name: str
    op: object = field(hash=False, compare=False, repr=False)
    inputs: tuple[Vertex, ...] = field(default=(), hash=False, compare=False, repr=False)
    definition: bytes = field(default=b"", hash=False, compare=False, repr=False)
    origin: object = field(default=None, hash=False, compare=False, repr=False)
    ignore_cache: bool = field(default=False, hash=False, compare=False)
    step: str = field(default="", hash=False, compare=False)
    last: bool = field(default=True, hash=False, compare=False)
    shown: bool = field(default=True, hash=False, compare=False)
    digest: Digest = field(init=False)

    def __post_init__(self) -> None:
        parts = [self.definition, *(str(vertex.digest).encode() for vertex in self.inputs)]
        framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        object.__setattr__(self, "digest", Digest.of(framed))


def walk(targets: Sequence[Vertex]) -> Iterator[Vertex]:
    """Every vertex the targets need, inputs before users, each digest once."""
    seen: set[Digest] = set()
    stack: list[tuple[Vertex, bool]] = [(vertex, False) for vertex in reversed(targets)]
    while stack:
        vertex, expanded = stack.pop()
        if expanded:
            yield vertex
        elif vertex.digest not in seen:
            seen.add(vertex.digest)
            stack.append((vertex, True))
            stack.extend((one, False) for one in reversed(vertex.inputs) if one.digest not in seen)
