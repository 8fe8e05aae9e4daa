"""How the copy planner hands a blob to a sink: something to call for the bytes, and perhaps to start in the middle."""

from __future__ import annotations

import io
from collections.abc import Callable

from lamina.image.protocols import Layer, Readable, ResumableLayer
from lamina.values import dataclass


@dataclass(frozen=True, slots=True)
class CheckedReader:
    """A stream that calls `check` before every read, so that a copy can be stopped between two."""

    stream: Readable
    check: Callable[[], None]

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; raises what `check` raises."""
        self.check()
        return self.stream.read(size)

    def close(self) -> None:
        """Close the stream beneath."""
        self.stream.close()


@dataclass(frozen=True, slots=True)
class LayerOpener:
    """Opens a layer's blob from the start."""

    layer: Layer
    check: Callable[[], None]

    @classmethod
    def of(cls, layer: Layer, check: Callable[[], None]) -> LayerOpener:
        """An opener with all the powers the layer has."""
        return ResumableLayerOpener(layer, check) if isinstance(layer, ResumableLayer) else cls(layer, check)

    def __call__(self) -> Readable:
        """The blob, verified while read."""
        return CheckedReader(self.layer.open(), self.check)


@dataclass(frozen=True, slots=True)
class ResumableLayerOpener(LayerOpener):
    """Opens a layer's blob anywhere."""

    def at(self, offset: int) -> Readable:
        """The blob from `offset` on, unverified."""
        if not isinstance(self.layer, ResumableLayer):
            raise TypeError("the layer cannot be read from the middle")
        return CheckedReader(self.layer.open_at(offset), self.check)


@dataclass(frozen=True, slots=True)
class BytesOpener:
    """Opens a small blob that is read whole."""

    read: Callable[[], bytes]

    def __call__(self) -> Readable:
        """The bytes as a stream."""
        return io.BytesIO(self.read())
