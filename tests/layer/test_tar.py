"""Reader and writer against each other, Python's tarfile and GNU tar."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamina.errors import Integrity, Invalid
from lamina.layer import header, pax
from lamina.layer.entry import BadArchive, Kind, TarEntry
from lamina.layer.limits import DEFAULT_LIMITS, LayerLimit
from lamina.layer.reader import TarReader
from lamina.layer.writer import TarWriter, WrongLength, entry_header
from lamina.testing.evil_tar import archive, base256, file, padded, raw_header
from lamina.testing.evil_tar import pax as pax_header


class Dribble:
    """A stream that returns a few bytes at a time, as sockets do."""

    def __init__(self, data: bytes, step: int) -> None:
        self._stream = io.BytesIO(data)
        self._step = step

    def read(self, n: int, /) -> bytes:
        return self._stream.read(min(n, self._step))


def write(entries: list[tuple[TarEntry, bytes]]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for entry, data in entries:
        writer.add(entry, data)
    writer.close()
    assert writer.position == len(out.getvalue())
    return out.getvalue()


def read(data: bytes, step: int = 1 << 20, **limits: int) -> list[tuple[TarEntry, bytes]]:
    reader = TarReader(Dribble(data, step), limits=replace(DEFAULT_LIMITS, **limits))
    return [(entry, b"".join(map(bytes, reader.chunks()))) for entry in reader]


_BYTES_NAME = st.binary(min_size=1, max_size=120).map(lambda raw: raw.replace(b"\0", b"0").replace(b"/", b"_"))
_TEXT_NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=60).map(str.encode)
_NAMES = (
    st.lists(_BYTES_NAME | _TEXT_NAME, min_size=1, max_size=4)
    .map(b"/".join)
    .filter(lambda raw: len(raw) < 4000)
    .map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
_XATTRS = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\0="), min_size=1, max_size=20).map("user.{}".format),
    st.binary(max_size=80),
    max_size=3,
)
_IDS = st.integers(0, 70_000) | st.integers(0, (1 << 32) - 2)
_TIMES = st.integers(0, 1 << 33).map(lambda s: s * 10**9) | st.integers(-(10**19), 10**20)


@st.composite
def entries(draw: st.DrawFn) -> tuple[TarEntry, bytes]:
    kind = draw(st.sampled_from(Kind))
    data = draw(st.binary(max_size=1500)) if kind is Kind.FILE else b""
    device = kind in {Kind.CHAR, Kind.BLOCK}
    entry = TarEntry(
        name=draw(_NAMES) + ("/" if kind is Kind.DIR else ""),
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(_IDS),
        gid=draw(_IDS),
        size=len(data),
        mtime=draw(_TIMES),
        linkname=draw(_NAMES) if kind in {Kind.SYMLINK, Kind.HARDLINK} else "",
        major=draw(st.integers(0, 4095)) if device else 0,
        minor=draw(st.integers(0, (1 << 20) - 1)) if device else 0,
        uname=draw(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)),
        gname=draw(st.just("") | st.just("wheel")),
        xattrs=draw(_XATTRS),
    )
    return entry, data


@settings(deadline=None, max_examples=300)
@given(st.lists(entries(), max_size=5), st.integers(1, 3000))
@example([(TarEntry("a" * 100), b"")], 512)
@example([(TarEntry("p" * 155 + "/" + "n" * 100), b"")], 512)
@example([(TarEntry("p" * 156 + "/" + "n" * 99), b"")], 512)
@example([(TarEntry("d" * 99 + "/", Kind.DIR), b"")], 512)
@example([(TarEntry("d" * 100 + "/", Kind.DIR), b"")], 512)
@example([(TarEntry("x", mtime=-1), b"")], 512)
def test_what_is_written_is_read(items: list[tuple[TarEntry, bytes]], step: int) -> None:
    assert read(write(items), step) == items


@settings(deadline=None, max_examples=200)
@given(st.lists(entries(), min_size=1, max_size=4))
def test_tarfile_reads_what_is_written(items: list[tuple[TarEntry, bytes]]) -> None:
    with tarfile.open(fileobj=io.BytesIO(write(items)), encoding="utf-8") as theirs:
        members = theirs.getmembers()
        for (entry, data), member in zip(items, members, strict=True):
            assert member.name == entry.name.rstrip("/")
            assert member.mode == entry.mode
            assert (member.uid, member.gid) == (entry.uid, entry.gid)
            assert member.linkname.rstrip("/") == entry.linkname.rstrip("/")
            if entry.kind is Kind.FILE:
                assert member.isreg()
                extracted = theirs.extractfile(member)
                assert extracted is not None
                assert extracted.read() == data


@settings(deadline=None, max_examples=200)
@given(st.lists(entries(), min_size=1, max_size=4), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_what_tarfile_writes_is_read(items: list[tuple[TarEntry, bytes]], form: int) -> None:
    types = {
        Kind.FILE: b"0",
        Kind.HARDLINK: b"1",
        Kind.SYMLINK: b"2",
        Kind.CHAR: b"3",
        Kind.BLOCK: b"4",
        Kind.DIR: b"5",
        Kind.FIFO: b"6",
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, encoding="utf-8") as theirs:
        for entry, data in items:
            member = tarfile.TarInfo(entry.name.rstrip("/"))
            member.type, member.mode, member.size = types[entry.kind], entry.mode, len(data)
            member.uid, member.gid, member.mtime = entry.uid, entry.gid, entry.mtime // 10**9
            member.linkname = entry.linkname
            member.devmajor, member.devminor = entry.major, entry.minor
            theirs.addfile(member, io.BytesIO(data))
    for (entry, data), (seen, seen_data) in zip(items, read(out.getvalue()), strict=True):
        assert seen.name.rstrip("/") == entry.name.rstrip("/")
        assert (seen.kind, seen.mode, seen.uid, seen.gid) == (entry.kind, entry.mode, entry.uid, entry.gid)
        assert (seen.linkname, seen_data) == (entry.linkname, data)
        assert (seen.major, seen.minor, seen.mtime // 10**9) == (entry.major, entry.minor, entry.mtime // 10**9)


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_gnu_tar_archives_are_read(form: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    (tree / "dir" / "file").write_bytes(b"content" * 500)
    (tree / "link").symlink_to("dir/file")
    os.link(tree / "dir/file", tree / "zhard")
    if form not in {"v7", "ustar"}:
        (tree / ("n" * 150)).write_text("long")
        (tree / "long").symlink_to("t" * 180)
    data = subprocess.run(
        ["tar", f"--format={form}", "--sort=name", "-C", str(tree), "-c", "."], capture_output=True, check=True
    ).stdout
    found = {entry.name: (entry, body) for entry, body in read(data, 700)}
    assert found["./dir/"][0].kind is Kind.DIR
    assert found["./dir/file"][1] == b"content" * 500
    assert found["./link"][0].linkname == "dir/file"
    assert (found["./zhard"][0].kind, found["./zhard"][0].linkname) == (Kind.HARDLINK, "./dir/file")
    if form not in {"v7", "ustar"}:
        assert found["./" + "n" * 150][1] == b"long"
        assert found["./long"][0].linkname == "t" * 180


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
)
@pytest.mark.parametrize("regions", [1, 3, 60])
def test_gnu_sparse_forms_are_read(options: list[str], regions: int, tmp_path: Path) -> None:
    from lamina.layer.apply import WhiteoutMode, apply_layer

    source = tmp_path / "src"
    source.mkdir()
    with open(source / "sparse", "wb") as out:
        for index in range(regions):
            out.seek(index * 300_000 + 100_000)
            out.write(b"%d!" % index * 2000)
        out.truncate(regions * 300_000 + 500_000)
    data = subprocess.run(
        ["tar", *options, "-S", "-C", str(source), "-c", "sparse"], capture_output=True, check=True
    ).stdout
    assert len(data) < (source / "sparse").stat().st_size / 2
    root = tmp_path / "root"
    root.mkdir()
    apply_layer(io.BytesIO(data), str(root), whiteouts=WhiteoutMode.REMOVE)
    assert (root / "sparse").read_bytes() == (source / "sparse").read_bytes()
    assert (root / "sparse").stat().st_blocks * 512 < (root / "sparse").stat().st_size


def test_gnu_tar_reads_what_is_written(tmp_path: Path) -> None:
    items = [
        (TarEntry("d/", Kind.DIR, 0o750, mtime=10**18), b""),
        (TarEntry("d/" + "n" * 180, size=3, mtime=10**18 + 5), b"abc"),
        (TarEntry("d/ümlaut", Kind.SYMLINK, linkname="t" * 150), b""),
        (TarEntry("hard", Kind.HARDLINK, linkname="d/" + "n" * 180), b""),
    ]
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=write(items), check=True)
    assert (tmp_path / "hard").read_bytes() == b"abc"
    assert os.readlink(tmp_path / "d/ümlaut") == "t" * 150
    assert (tmp_path / "hard").stat().st_mtime_ns == 10**18 + 5


def test_files_over_8_gib_need_a_pax_size() -> None:
    blocks = entry_header(TarEntry("big", size=9 << 30))
    assert b" size=9663676416\n" in blocks
    assert next(iter(TarReader(io.BytesIO(blocks)))).size == 9 << 30


def test_plain_entries_take_one_block() -> None:
    assert len(entry_header(TarEntry("etc/passwd", uid=1000, gid=2_000_000, mtime=10**18))) == 512


@pytest.mark.parametrize("value", [0, 1, 511, 8**7, 1 << 40, -1, -(1 << 40), (1 << 62) - 1])
def test_base256_numbers(value: int) -> None:
    assert header.number(base256(value, 12)) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [(b"0000644\0", 0o644), (b"   644 \0", 0o644), (b"644\0junk", 0o644), (b"\0" * 8, 0), (b"        ", 0)],
)
def test_octal_numbers(field: bytes, value: int) -> None:
    assert header.number(field) == value


@pytest.mark.parametrize("field", [b"0000648\0", b"-0000644", b"0o644\0\0\0", b"6_4\0\0\0\0\0", b"6 4\0\0\0\0\0"])
def test_not_octal(field: bytes) -> None:
    with pytest.raises(header.BadField):
        header.number(field)


def test_signed_checksums_of_old_suns_are_accepted() -> None:
    block = raw_header("ü".encode())
    blank = block[:148] + b" " * 8 + block[156:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in blank)
    data = raw_header("ü".encode(), checksum=b"%06o\0 " % signed) + bytes(1024)
    assert [entry.name for entry, _ in read(data)] == ["ü"]


@given(st.binary(min_size=512, max_size=512))
def test_byte_sum_is_exact(block: bytes) -> None:
    assert header.byte_sum(block) == sum(block)


def test_global_headers_apply_until_changed() -> None:
    data = archive(
        pax_header([(b"mtime", b"7.5"), (b"uid", b"5")], b"g"),
        file(b"a"),
        pax_header([(b"uid", b"6")]),
        file(b"b"),
        pax_header([(b"uid", b"")], b"g"),
        file(b"c"),
    )
    assert [(e.name, e.uid, e.mtime) for e, _ in read(data)] == [
        ("a", 5, 7_500_000_000),
        ("b", 6, 7_500_000_000),
        ("c", 0, 7_500_000_000),
    ]


def test_extended_attributes_of_star_and_libarchive() -> None:
    data = archive(
        pax_header([(b"LIBARCHIVE.xattr.user.a%3Db", b"aGk"), (b"SCHILY.xattr.security.capability", b"\1\0\n=\xff")]),
        file(b"x"),
    )
    assert read(data)[0][0].xattrs == {"user.a=b": b"hi", "security.capability": b"\1\0\n=\xff"}


def test_long_names_of_gnu() -> None:
    data = archive(
        raw_header(b"././@LongLink", b"L", size=201) + padded(b"n" * 200 + b"\0"),
        raw_header(b"././@LongLink", b"K", size=151) + padded(b"t" * 150 + b"\0"),
        raw_header(b"short", b"2", linkname=b"short", magic=b"ustar  \0"),
    )
    entry = read(data)[0][0]
    assert (entry.name, entry.linkname) == ("n" * 200, "t" * 150)


def test_gnu_headers_have_no_prefix() -> None:
    # GNU keeps times where ustar keeps the prefix
    data = archive(raw_header(b"f", magic=b"ustar  \0", tail=b"00000000001\0"))
    assert read(data)[0][0].name == "f"


def test_link_and_directory_entries_have_no_data_whatever_their_size_says() -> None:
    data = archive(raw_header(b"l", b"1", size=512, linkname=b"x"), file(b"next"))
    assert [entry.name for entry, _ in read(data)] == ["l", "next"]


def test_an_old_directory_is_a_file_name_with_a_slash() -> None:
    assert read(archive(raw_header(b"d/", b"\0")))[0][0].kind is Kind.DIR


def test_missing_end_marker_is_accepted_at_an_entry_boundary() -> None:
    reader = TarReader(io.BytesIO(file(b"a") + file(b"b")))
    assert [entry.name for entry in reader] == ["a", "b"]
    assert not reader.terminated


def test_empty_stream_is_an_empty_archive() -> None:
    assert read(b"") == []
    assert read(bytes(10240)) == []


def test_truncation_names_the_entry() -> None:  # threat 10
    with pytest.raises(BadArchive, match="'dir/big'") as caught:
        read(file(b"dir/big", bytes(5000))[:3000])
    assert caught.value.entry == "dir/big"
    assert isinstance(caught.value, Integrity)


def test_bytes_after_the_end_are_read_but_ignored() -> None:
    stream = io.BytesIO(archive(file(b"a")) + b"junk" * 5000)
    reader = TarReader(stream)
    assert len(list(reader)) == 1
    reader.drain()
    assert stream.read() == b""
    assert reader.position == len(stream.getvalue())


def test_limits_name_what_was_exceeded() -> None:  # threat 9
    many = archive(*[file(b"f%d" % index, b"") for index in range(50)])
    with pytest.raises(LayerLimit) as caught:
        read(many, max_entries=49)
    assert caught.value.what == "max_entries"
    assert len(read(many, max_entries=50)) == 50
    with pytest.raises(LayerLimit):
        read(pax_header([(b"a", b"b")], b"g") * 50 + archive(), max_entries=10)
    with pytest.raises(LayerLimit, match="has 1073741824 bytes"):  # 1 GB PAX claim: refused before any is read
        read(raw_header(b"p", b"x", size=1 << 30))
    with pytest.raises(LayerLimit, match="has 1073741824 bytes"):
        read(raw_header(b"p", b"L", size=1 << 30))
    with pytest.raises(LayerLimit):
        read(archive(pax_header([(b"SCHILY.xattr.user.a", bytes(70_000))]), file(b"x")))
    with pytest.raises(LayerLimit):
        read(
            archive(
                pax_header([(b"GNU.sparse.map", b"0,1," * 70_000 + b"0,1"), (b"GNU.sparse.size", b"9")]), file(b"x")
            )
        )
    with pytest.raises(LayerLimit):
        read(archive(*[pax_header([(b"k%d" % n, bytes(1000))], b"g") for n in range(1100)]))


def test_the_writer_refuses_wrong_lengths_and_impossible_names() -> None:
    writer = TarWriter(io.BytesIO().write)
    for data in (b"", b"12", b"1234"):
        with pytest.raises(WrongLength):
            writer.add(TarEntry("x", size=3), data)
        with pytest.raises(WrongLength):
            writer.add(TarEntry("x", size=3), io.BytesIO(data))
    for entry in (
        TarEntry(""),
        TarEntry("a\0b"),
        TarEntry("f/"),
        TarEntry("x", uid=-1),
        TarEntry("x", xattrs={"a=b": b""}),
    ):
        with pytest.raises(Invalid):
            writer.add(entry, b"")


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="=\0"), min_size=1, max_size=30),
        st.binary(max_size=300),
    )
)
@example({"k": b"v" * 94})
@example({"k": b"v" * 95})
@example({"k": b"v" * 993})
def test_pax_records_round_trip(records: dict[str, bytes]) -> None:
    assert dict(pax.parse_records(pax.format_records(records))) == records


@given(st.integers(-(10**20), 10**20))
def test_pax_times_round_trip(ns: int) -> None:
    assert pax.time_ns(pax.format_time(ns), "mtime") == ns


@pytest.mark.parametrize(
    ("value", "ns"),
    [(b"1.", 10**9), (b".5", 5 * 10**8), (b"-.5", -5 * 10**8), (b"-1.0000000001", -(10**9) - 1), (b"1e3", 10**12)],
)
def test_odd_pax_times(value: bytes, ns: int) -> None:
    assert pax.time_ns(value, "mtime") == ns


@pytest.mark.parametrize("value", [b"", b"x", b"nan", b"inf", b"1e99", b"\xff", b"1_0"])
def test_impossible_pax_times(value: bytes) -> None:
    with pytest.raises(pax.BadRecord):
        pax.time_ns(value, "mtime")


@settings(deadline=2000, max_examples=400)  # threat 5: no sample may loop
@given(st.binary(max_size=600), st.integers(0, 511), st.sampled_from([b"0", b"x", b"g", b"L", b"S", b"5", b"V"]))
def test_damaged_headers_end_in_one_kind_of_error(noise: bytes, at: int, typeflag: bytes) -> None:
    block = bytearray(raw_header(b"name", typeflag, size=len(noise), magic=b"ustar  \0"))
    block[at : at + 8] = noise[:8].ljust(8, b"\0")
    total = sum(block) - sum(block[148:156]) + 256
    block[148:156] = b"%06o\0 " % total
    try:
        read(bytes(block[:512]) + padded(noise) + bytes(1024), 100)
    except (Integrity, LayerLimit):
        pass
