"""Follow the frame structure of a zstd stream (RFC 8878, section 3.1) without decoding it.

The decoder in use reports the end of input inside a frame as a normal end; this scanner knows better. It also bounds
the window before any memory is allocated for it.
"""

from __future__ import annotations

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MAGIC = int.from_bytes(ZSTD_MAGIC, "little")
_SKIPPABLE = 0x184D2A50
_DICTIONARY_SIZE = (0, 1, 2, 4)
_CONTENT_SIZE = (0, 2, 4, 8)


class FrameError(ValueError):
    """The stream is not a sequence of zstd frames, or wants a larger window than allowed."""


class FrameScanner:
    """State machine over compressed bytes, fed in pieces of any size."""

    def __init__(self, max_window_log: int) -> None:
        self._max_window = 1 << max_window_log
        self._state = self._frame
        self._need = 4
        self._skip = 0
        self._have = bytearray()
        self._checksum = False
        self._descriptor = 0

    @property
    def complete(self) -> bool:
        """The bytes fed so far end exactly at the end of a frame (or nothing was fed)."""
        return self._state == self._frame and not self._have and not self._skip

    def feed(self, data: bytes) -> None:
        """Advance over `data`.

        Raises:
            FrameError: for unknown magic numbers, reserved block types and oversized windows.
        """
        at = 0
        end = len(data)
        have = self._have
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
                continue
            take = self._need - len(have)
            have += data[at : at + take]
            at += take
            if len(have) == self._need:
                field = bytes(have)
                have.clear()
                self._state(field)

    def _frame(self, field: bytes) -> None:
        magic = int.from_bytes(field, "little")
        if magic == _MAGIC:
            self._state, self._need = self._header, 1
        elif magic & 0xFFFFFFF0 == _SKIPPABLE:
            self._state, self._need = self._skippable, 4
        else:
            raise FrameError("trailing garbage")

    def _skippable(self, field: bytes) -> None:
        self._skip = int.from_bytes(field, "little")
        self._state, self._need = self._frame, 4

    def _header(self, field: bytes) -> None:
        self._descriptor = descriptor = field[0]
        single = bool(descriptor & 0x20)
        self._checksum = bool(descriptor & 0x04)
        content = _CONTENT_SIZE[descriptor >> 6] or (1 if single else 0)
        self._state = self._header_rest
        self._need = (0 if single else 1) + _DICTIONARY_SIZE[descriptor & 3] + content
        if not self._need:
            raise FrameError("bad frame header")

    def _header_rest(self, field: bytes) -> None:
        if not self._descriptor & 0x20:
            exponent, mantissa = field[0] >> 3, field[0] & 7
            base = 1 << (10 + exponent)
            window = base + base // 8 * mantissa
            if window > self._max_window:
                raise FrameError(f"window of {window} bytes is larger than the allowed {self._max_window}")
        self._state, self._need = self._block, 3

    def _block(self, field: bytes) -> None:
        value = int.from_bytes(field, "little")
        kind = value >> 1 & 3
        if kind == 3:
            raise FrameError("reserved block type")
        self._skip = 1 if kind == 1 else value >> 3
        if value & 1:
            self._state, self._need = (self._trailer, 4) if self._checksum else (self._frame, 4)

    def _trailer(self, field: bytes) -> None:
        del field
        self._state, self._need = self._frame, 4
