"""Layer compression: detect, decompress with bounds, compress the same way every time.

Decoders pull: `read(n)` inflates at most `n` bytes, so a bomb costs no memory. gzip uses ISA-L in both directions
(measured in benchmarks/bench_layer.py), zstd uses python-zstandard; both release the GIL.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol, cast

from lamina.errors import Integrity, Unsupported
from lamina.layer.digesting import Readable, Write
from lamina.layer.limits import DEFAULT_LIMITS, LayerLimit, Limits
from lamina.layer.zstdframes import ZSTD_MAGIC, FrameError, FrameScanner

_INPUT = 128 * 1024
_DETECT = 6


class Compression(enum.Enum):
    """How a blob is compressed; the value is the short name used in options and media types."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    BZIP2 = "bzip2"
    XZ = "xz"


_MAGIC = (
    (b"\x1f\x8b\x08", Compression.GZIP),
    (ZSTD_MAGIC, Compression.ZSTD),
    (b"BZh", Compression.BZIP2),
    (b"\xfd7zXZ\x00", Compression.XZ),
)


class BadStream(Integrity):
    """A compressed stream is truncated, corrupt, or followed by something else.

    Attributes:
        compression: the kind of the stream.
        offset: decompressed bytes that came out before the damage was seen.
    """

    def __init__(self, compression: Compression, offset: int, why: str) -> None:
        super().__init__(f"damaged {compression.value} stream after {offset} decompressed bytes: {why}")
        self.compression = compression
        self.offset = offset


def detect(prefix: bytes) -> Compression:
    """Name the compression of a blob from its first 6 bytes or more; NONE when no magic number matches.

    zstd skippable frames (RFC 8878, 3.1.2) count as zstd.
    """
    for magic, kind in _MAGIC:
        if prefix.startswith(magic):
            return kind
    if len(prefix) >= 4 and prefix[1:4] == b"\x2a\x4d\x18" and prefix[0] & 0xF0 == 0x50:
        return Compression.ZSTD
    return Compression.NONE


class _Decoder(Protocol):
    """What bz2, lzma and igzip_lib decompressor objects share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Meter:
    """Counts both sides of a decoder and raises when it produces too much."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.consumed = 0
        self.produced = 0

    def out(self, size: int) -> None:
        limits = self._limits
        self.produced += size
        if self.produced > limits.max_bytes:
            message = f"layer is larger than {limits.max_bytes} bytes when decompressed"
            raise LayerLimit("max_bytes", limits.max_bytes, message)
        if self.produced > limits.ratio_grace and self.produced > self.consumed * limits.max_ratio:
            message = f"layer expands more than {limits.max_ratio} times ({self.consumed} to {self.produced} bytes)"
            raise LayerLimit("max_ratio", limits.max_ratio, message)


class _Plain:
    """No compression; only the size is bounded."""

    def __init__(self, stream: Readable, head: bytes, limits: Limits) -> None:
        self._stream = stream
        self._head = head
        self._left = limits.max_bytes
        self._limit = limits.max_bytes

    def read(self, n: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:n], self._head[n:]
        else:
            data = self._stream.read(n)
        self._left -= len(data)
        if self._left < 0:
            raise LayerLimit("max_bytes", self._limit, f"layer is larger than {self._limit} bytes")
        return data


class _Members:
    """Inflate a sequence of gzip members, bzip2 streams or xz streams."""

    def __init__(
        self,
        stream: Readable,
        head: bytes,
        kind: Compression,
        new: Callable[[], _Decoder],
        errors: tuple[type[Exception], ...],
        limits: Limits,
    ) -> None:
        self._stream = stream
        self._kind = kind
        self._magic = next(magic for magic, each in _MAGIC if each is kind)
        self._new = new
        self._errors = errors
        self._pending = head
        self._meter = _Meter(limits)
        self._meter.consumed = len(head)
        self._decoder = new()
        self._done = False

    def _bad(self, why: str) -> BadStream:
        return BadStream(self._kind, self._meter.produced, why)

    def _input(self) -> bytes:
        data = self._pending
        if data:
            self._pending = b""
            return data
        data = self._stream.read(_INPUT)
        self._meter.consumed += len(data)
        return data

    def _next_member(self) -> None:
        """After the end of a member: start the next one, or finish. Zero padding is allowed, garbage is not."""
        rest = self._decoder.unused_data or self._input()
        while 0 < len(rest) < len(self._magic) and (more := self._input()):
            rest += more
        if rest.startswith(self._magic):
            self._decoder = self._new()
            self._pending = rest
            return
        while rest:
            if rest.strip(b"\0"):
                raise self._bad("trailing garbage")
            rest = self._input()
        self._done = True

    def read(self, n: int, /) -> bytes:
        while not self._done:
            decoder = self._decoder
            if decoder.eof:
                self._next_member()
                continue
            data = b""
            if decoder.needs_input:
                data = self._input()
                if not data:
                    raise self._bad("unexpected end")
            try:
                out = decoder.decompress(data, n)
            except self._errors as error:
                raise self._bad(str(error)) from error
            if out:
                self._meter.out(len(out))
                return out
        return b""


class _ScannedSource:
    """Feeds compressed bytes to python-zstandard while checking their frame structure."""

    def __init__(self, stream: Readable, head: bytes, meter: _Meter, scanner: FrameScanner) -> None:
        self._stream = stream
        self._head = head
        self._meter = meter
        self._scanner = scanner

    def read(self, n: int = _INPUT, /) -> bytes:
        if self._head:
            data, self._head = self._head[:n], self._head[n:]
        else:
            data = self._stream.read(n)
        self._meter.consumed += len(data)
        self._scanner.feed(data)
        return data


class _Zstd:
    """Inflate zstd frames. python-zstandard ends silently on truncation, hence the scanner."""

    def __init__(self, stream: Readable, head: bytes, limits: Limits) -> None:
        import zstandard

        self._meter = _Meter(limits)
        self._scanner = FrameScanner(limits.max_window_log)
        source = _ScannedSource(stream, head, self._meter, self._scanner)
        decoder = zstandard.ZstdDecompressor(max_window_size=1 << limits.max_window_log)
        self._reader = decoder.stream_reader(source, read_size=_INPUT, read_across_frames=True)  # type: ignore[arg-type]
        self._error: type[Exception] = zstandard.ZstdError

    def read(self, n: int, /) -> bytes:
        try:
            out = self._reader.read(n)
        except FrameError as error:
            raise BadStream(Compression.ZSTD, self._meter.produced, str(error)) from error
        except self._error as error:
            raise BadStream(Compression.ZSTD, self._meter.produced, str(error)) from error
        if out:
            self._meter.out(len(out))
        elif not self._scanner.complete:
            raise BadStream(Compression.ZSTD, self._meter.produced, "unexpected end")
        return out


def decompress(stream: Readable, kind: Compression | None = None, *, limits: Limits = DEFAULT_LIMITS) -> Readable:
    """Return the decompressed view of `stream`.

    Args:
        stream: source of compressed bytes; it is read to its very end before `read` returns b"".
        kind: how it is compressed, or None to detect that by magic number (then up to 6 bytes are read at once).
        limits: `max_bytes`, `max_ratio`, `ratio_grace`, `max_window_log` and `max_xz_memory` apply.

    Returns:
        A reader; `read(n)` may return fewer bytes than asked, b"" only at the end. It raises `BadStream` for
        truncation, corruption and trailing garbage (zero padding between and after members is accepted), and
        `LayerLimit` for bombs.
    """
    head = b""
    if kind is None:
        while len(head) < _DETECT and (more := stream.read(_DETECT - len(head))):
            head += more
        kind = detect(head)
    if kind is Compression.NONE:
        return _Plain(stream, head, limits)
    if kind is Compression.ZSTD:
        return _Zstd(stream, head, limits)
    new, errors = _decoder_of(kind, limits)
    return _Members(stream, head, kind, new, errors, limits)


def _decoder_of(kind: Compression, limits: Limits) -> tuple[Callable[[], _Decoder], tuple[type[Exception], ...]]:
    if kind is Compression.GZIP:
        from isal import igzip_lib

        gzip_flag = igzip_lib.DECOMP_GZIP
        error = cast("type[Exception]", igzip_lib.IsalError)  # its stub says instance
        return (lambda: igzip_lib.IgzipDecompressor(flag=gzip_flag)), (error,)
    if kind is Compression.BZIP2:
        import bz2

        return bz2.BZ2Decompressor, (OSError, ValueError)
    import lzma

    return (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, limits.max_xz_memory)), (lzma.LZMAError, ValueError)


class Compressor(Protocol):
    """A push compressor: write everything, then close once; the caller's sink is not closed."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Compress `data`, passing finished bytes on; return its length."""
        ...

    def close(self) -> None:
        """Write what is left and the trailer."""
        ...


class _PlainCompressor:
    def __init__(self, write: Write) -> None:
        self._write = write

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        self._write(data)
        return len(data)

    def close(self) -> None:
        pass


class _CodecObject(Protocol):
    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


_CODEC_INPUT = 64 * 1024


class _CodecCompressor:
    """Gathers small writes (tar headers) so that the codec is called with whole blocks."""

    def __init__(self, write: Write, codec: _CodecObject, head: bytes = b"", tail: Callable[[], bytes] = bytes) -> None:
        self._write = write
        self._codec = codec
        self._small = bytearray()
        self._tail = tail
        if head:
            write(head)

    def _encode(self, data: bytes | bytearray | memoryview) -> None:
        out = self._codec.compress(data)
        if out:
            self._write(out)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        size = len(data)
        small = self._small
        if size + len(small) < _CODEC_INPUT:
            small += data
            return size
        # The codec must see the same block boundaries however the caller cut its writes, or the bytes would differ.
        view = memoryview(data)
        if small:
            need = _CODEC_INPUT - len(small)
            small += view[:need]
            view = view[need:]
            self._encode(small)
            self._small = small = bytearray()
        whole = len(view) - len(view) % _CODEC_INPUT
        for start in range(0, whole, _CODEC_INPUT):
            self._encode(view[start : start + _CODEC_INPUT])
        small += view[whole:]
        return size

    def close(self) -> None:
        if self._small:
            self._encode(self._small)
            self._small = bytearray()
        self._write(self._codec.flush() + self._tail())


class _Crc32Codec:
    """Raw deflate plus the running checksum that the gzip trailer needs."""

    def __init__(self, codec: _CodecObject, crc32: Callable[[bytes | bytearray | memoryview, int], int]) -> None:
        self._codec = codec
        self._crc32 = crc32
        self._crc = 0
        self._size = 0

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes:
        self._crc = self._crc32(data, self._crc)
        self._size += len(data)
        return self._codec.compress(data)

    def flush(self) -> bytes:
        return self._codec.flush()

    def trailer(self) -> bytes:
        return self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")


GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""RFC 1952 header with no flags, no time, no name and OS 255 (unknown): the same on every machine."""


def compressor(kind: Compression, write: Write, level: int | None = None) -> Compressor:
    """Return a deterministic compressor: equal input gives equal output, however it is cut into writes.

    Args:
        kind: NONE, GZIP or ZSTD (BZIP2 and XZ are read only: no registry client accepts them).
        write: sink of compressed bytes.
        level: gzip 0-3 = ISA-L levels (default 1), 4-9 = zlib levels of that number, slower and a little smaller;
            zstd 1-22 (default 3).

    Raises:
        Unsupported: for other kinds or levels.
    """
    if kind is Compression.NONE:
        return _PlainCompressor(write)
    if kind is Compression.GZIP:
        codec = _gzip_codec(1 if level is None else level)
        return _CodecCompressor(write, codec, GZIP_HEADER, codec.trailer)
    if kind is Compression.ZSTD:
        import zstandard

        level = 3 if level is None else level
        if not 1 <= level <= 22:
            raise Unsupported(f"zstd compression level {level} is not in 1..22")
        return _CodecCompressor(write, zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj())
    raise Unsupported(f"cannot compress with {kind.value}: layers are written as gzip, zstd or none")


def _gzip_codec(level: int) -> _Crc32Codec:
    from isal import isal_zlib

    if 0 <= level <= 3:
        raw: _CodecObject = isal_zlib.compressobj(level, isal_zlib.DEFLATED, -15)
    elif 4 <= level <= 9:
        import zlib

        raw = zlib.compressobj(level, zlib.DEFLATED, -15)
    else:
        raise Unsupported(f"gzip compression level {level} is not in 0..9")
    return _Crc32Codec(raw, isal_zlib.crc32)
