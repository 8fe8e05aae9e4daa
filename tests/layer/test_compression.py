"""Compression: round trips, determinism, damage, bombs (threats 9, 10; B08, B19, D30)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.errors import Integrity, Unsupported
from lamina.layer.compression import BadStream, Compression, compressor, decompress, detect
from lamina.layer.digesting import HashingReader, HashingWriter, drain
from lamina.layer.limits import LayerLimit, Limits
from lamina.layer.pipeline import ReadAhead

DATA = os.urandom(70_000) + b"text " * 60_000 + bytes(300_000)


def squeeze(kind: Compression, data: bytes, level: int | None = None, cut: int = 1 << 20) -> bytes:
    out = io.BytesIO()
    packer = compressor(kind, out.write, level)
    for start in range(0, len(data), cut):
        assert packer.write(data[start : start + cut]) == len(data[start : start + cut])
    packer.close()
    return out.getvalue()


def expand(
    data: bytes, step: int = 1 << 20, size: int = 1 << 18, kind: Compression | None = None, **limits: int
) -> bytes:
    class Steps:
        stream = io.BytesIO(data)

        def read(self, n: int, /) -> bytes:
            return self.stream.read(min(n, step))

    reader = decompress(Steps(), kind, limits=Limits(**limits))
    parts = []
    while part := reader.read(size):
        assert len(part) <= size
        parts.append(part)
    assert reader.read(size) == b""
    return b"".join(parts)


FORMS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.NONE: lambda data: b"\0" + data,
    Compression.GZIP: lambda data: gzip.compress(data, 6),
    Compression.ZSTD: lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    Compression.BZIP2: bz2.compress,
    Compression.XZ: lzma.compress,
}
REAL = [kind for kind in Compression if kind is not Compression.NONE]


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("kind", Compression)
def test_all_kinds_are_detected_and_expanded(kind: Compression, step: int) -> None:
    data = DATA[: 3000 if step == 1 else None]
    packed = FORMS[kind](data)
    assert detect(packed[:6]) is kind
    assert expand(packed, step).endswith(data)
    assert expand(packed, step, kind=kind).endswith(data)


@pytest.mark.parametrize("kind", REAL)
def test_members_may_follow_each_other_and_be_padded(kind: Compression) -> None:
    packed = FORMS[kind](DATA)
    assert expand(packed * 3, 1000) == DATA * 3
    if kind is not Compression.ZSTD:
        assert expand(packed + bytes(512)) == DATA


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("tail", [b"garbage", b"\x1f", bytes(20) + b"x", b"\x1f\x8b\x08"])
def test_trailing_garbage_is_damage(kind: Compression, tail: bytes) -> None:  # threat 10
    with pytest.raises(BadStream):
        expand(FORMS[kind](DATA) + tail)


@pytest.mark.parametrize("kind", REAL)
def test_every_truncation_is_damage(kind: Compression) -> None:  # threat 10, F19
    packed = FORMS[kind](DATA)
    for cut in [*range(len(packed) - 12, len(packed)), 7, 20, len(packed) // 2, len(packed) // 3]:
        with pytest.raises(BadStream) as caught:
            expand(packed[:cut], kind=kind)
        assert caught.value.compression is kind
        assert isinstance(caught.value, Integrity)


@pytest.mark.parametrize("kind", REAL)
def test_flipped_bits_are_damage(kind: Compression) -> None:  # threat 10, F20
    packed = FORMS[kind](DATA)
    for at in range(30, len(packed), len(packed) // 40):
        broken = bytearray(packed)
        broken[at] ^= 0x10
        with pytest.raises(BadStream):
            assert expand(bytes(broken), kind=kind) != DATA
            raise BadStream(kind, 0, "differs")


@settings(deadline=None, max_examples=60)
@given(
    st.binary(max_size=300_000) | st.integers(0, 400_000).map(bytes),
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([97, 65_536, 70_000]),
)
def test_gzip_is_deterministic_and_right(data: bytes, level: int, cut: int) -> None:  # B19
    packed = squeeze(Compression.GZIP, data, level)
    assert packed == squeeze(Compression.GZIP, data, level, cut)
    assert packed[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    assert gzip.decompress(packed) == data


@pytest.mark.parametrize("level", [None, 1, 19])
def test_zstd_is_deterministic_and_right(level: int | None) -> None:
    packed = squeeze(Compression.ZSTD, DATA, level)
    assert packed == squeeze(Compression.ZSTD, DATA, level, 1013)
    assert expand(packed) == DATA
    assert subprocess_zstd(packed) == DATA


def subprocess_zstd(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(packed)


def test_the_default_gzip_compresses_text_well() -> None:
    text = b"".join(b"%d the quick brown fox\n" % n for n in range(50_000))
    assert len(squeeze(Compression.GZIP, text)) < len(text) / 4


def test_no_compression_passes_through() -> None:
    assert squeeze(Compression.NONE, DATA, cut=999) == DATA


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        (Compression.XZ, None),
        (Compression.BZIP2, None),
        (Compression.GZIP, 10),
        (Compression.GZIP, -1),
        (Compression.ZSTD, 0),
        (Compression.ZSTD, 23),
    ],
)
def test_what_cannot_be_written(kind: Compression, level: int | None) -> None:
    with pytest.raises(Unsupported):
        compressor(kind, io.BytesIO().write, level)


def test_zstd_skippable_frames_and_windows() -> None:
    skippable = b"\x5a\x2a\x4d\x18\x05\0\0\0hello"
    assert detect(skippable) is Compression.ZSTD
    assert expand(skippable + FORMS[Compression.ZSTD](DATA) + skippable, 3) == DATA
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=28, write_content_size=False)
    ).compressobj()
    packed = wide.compress(DATA) + wide.flush()
    with pytest.raises(BadStream, match="window of 268435456 bytes"):  # threat 9
        expand(packed)
    assert expand(packed, max_window_log=28) == DATA
    with pytest.raises(BadStream):
        expand(b"\x5a\x2a\x4d\x18\xff\0\0\0short")


def test_xz_memory_is_bounded() -> None:  # threat 9
    packed = lzma.compress(DATA, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 256 << 20}])
    with pytest.raises(BadStream, match=r"[Mm]emory"):
        expand(packed)


def test_size_limit_is_exact() -> None:
    for packed in (DATA, *(FORMS[kind](DATA) for kind in REAL)):
        assert expand(packed, max_bytes=len(DATA)) == DATA
        with pytest.raises(LayerLimit):
            expand(packed, max_bytes=len(DATA) - 1)


def test_a_long_run_of_zeros_in_a_real_layer_passes() -> None:  # threat 9, the twin
    data = os.urandom(1 << 20) + bytes(200 << 20)
    assert len(expand(gzip.compress(data, 1))) == len(data)


BOMB = """
import sys
from lamina.errors import LimitExceeded
from lamina.layer.apply import WhiteoutMode, apply_layer
from lamina.layer.compression import decompress
from lamina.testing import evil_tar
import io, os, tempfile
size = 10 << 30
header = evil_tar.raw_header(b"zeros", size=evil_tar.base256(size, 12))
what = sys.argv[1]
if what == "gzip":
    one = evil_tar.zeros_gzip(1 << 26)
    import gzip
    stream = decompress(io.BytesIO(gzip.compress(header) + one * 160))
elif what == "zstd":
    import zstandard
    stream = decompress(io.BytesIO(zstandard.ZstdCompressor().compress(header) + evil_tar.zeros_zstd(size)))
elif what == "sparse":
    records = [(b"GNU.sparse.map", b"0,4"), (b"GNU.sparse.size", b"%d" % size)]
    stream = io.BytesIO(evil_tar.archive(evil_tar.pax(records), evil_tar.file(b"zeros")))
elif what == "entries":
    class Endless:
        block = evil_tar.raw_header(b"f", b"5") * 400
        def read(self, n):
            return self.block
    stream = Endless()
with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
    limits = __import__("lamina.layer.limits", fromlist=["Limits"]).Limits(ratio_grace=64 << 20, max_entries=100_000)
    try:
        apply_layer(stream, root, whiteouts=WhiteoutMode.REMOVE, limits=limits)
    except LimitExceeded as error:
        peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
        print(error.what, int(peak.split()[1]) // 1024)
"""


@pytest.mark.parametrize(
    ("what", "limit"),
    [("gzip", "max_ratio"), ("zstd", "max_ratio"), ("sparse", "max_hole_bytes"), ("entries", "max_entries")],
)
def test_bombs_fail_fast_in_flat_memory(what: str, limit: str) -> None:  # threat 9
    done = subprocess.run([sys.executable, "-c", BOMB, what], capture_output=True, text=True, check=True)
    named, rss = done.stdout.split()
    assert named == limit
    assert int(rss) < 256  # MiB


def test_hashing_both_ways() -> None:
    import hashlib

    out = io.BytesIO()
    writer = HashingWriter(out.write)
    for start in range(0, len(DATA), 999):
        writer.write(memoryview(DATA)[start : start + 999])
    reader = HashingReader(io.BytesIO(DATA))
    assert drain(reader, 1000) == len(DATA)
    assert writer.digest == reader.digest == hashlib.sha256(DATA).hexdigest()
    assert writer.size == reader.size == len(out.getvalue()) == len(DATA)


def test_read_ahead_passes_bytes_and_errors_in_order() -> None:
    with ReadAhead(io.BytesIO(DATA), chunk=1000, depth=3) as ahead:
        assert b"".join(iter(lambda: ahead.read(333), b"")) == DATA
        assert ahead.read(5) == b""
    packed = FORMS[Compression.GZIP](DATA)
    with ReadAhead(decompress(io.BytesIO(packed[:-1])), chunk=1000) as ahead:
        got = b""
        with pytest.raises(BadStream):
            while part := ahead.read(1 << 20):
                got += part
        assert DATA.startswith(got)
        assert got


def test_read_ahead_can_be_abandoned() -> None:
    class Endless:
        def read(self, n: int, /) -> bytes:
            return bytes(n)

    with ReadAhead(Endless(), depth=2) as ahead:
        assert ahead.read(10) == bytes(10)


def test_python_and_lamina_gzip_agree_on_checksums() -> None:
    packed = squeeze(Compression.GZIP, DATA)
    assert int.from_bytes(packed[-8:-4], "little") == zlib.crc32(DATA)
    assert int.from_bytes(packed[-4:], "little") == len(DATA)
