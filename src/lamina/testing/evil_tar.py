"""Hostile tar archives for testing anything that unpacks, and a canary that shows whether one got out.

Headers are written byte by byte: neither `tarfile` nor lamina's own writer would write most of these. Every attack has
a legitimate twin, because a refusal that breaks real images is a bug as well. Rows: docs on threats 1-9.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable

from lamina.values import dataclass

BLOCK = 512


def octal(value: int, width: int) -> bytes:
    """A numeric header field: octal digits and a NUL."""
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    """A numeric header field in GNU's binary form, negative values included."""
    return (value + (1 << (8 * width)) & ((1 << (8 * width)) - 1) | (1 << (8 * width - 1))).to_bytes(width, "big")


def raw_header(
    name: bytes,
    typeflag: bytes = b"0",
    *,
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    linkname: bytes = b"",
    magic: bytes = b"ustar\x0000",
    major: int | bytes = 0,
    minor: int | bytes = 0,
    tail: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One header block with exactly these fields; bytes stand for themselves, numbers become octal.

    `tail` fills the 167 bytes from offset 345 (the ustar prefix, or GNU's sparse fields from offset 386).
    """

    def field(value: int | bytes, width: int) -> bytes:
        return value.ljust(width, b"\0") if isinstance(value, bytes) else octal(value, width)

    block = b"".join(
        (
            name[:100].ljust(100, b"\0"),
            field(mode, 8),
            field(uid, 8),
            field(gid, 8),
            field(size, 12),
            field(mtime, 12),
            b" " * 8,
            typeflag,
            linkname[:100].ljust(100, b"\0"),
            magic,
            bytes(64),
            field(major, 8),
            field(minor, 8),
            tail.ljust(167, b"\0"),
        ),
    )
    return block[:148] + (checksum or b"%06o\0 " % sum(block)) + block[156:]


def padded(data: bytes) -> bytes:
    """Data filled up to a whole block."""
    return data + bytes(-len(data) % BLOCK)


def pax_record(keyword: bytes, value: bytes) -> bytes:
    """One PAX record with its right length."""
    size = len(keyword) + len(value) + 3
    length = size + len(str(size))
    if len(str(length)) + size != length:
        length = size + len(str(length))
    return b"%d %b=%b\n" % (length, keyword, value)


def pax(records: Iterable[tuple[bytes, bytes]], typeflag: bytes = b"x") -> bytes:
    """An extended header with these records, in this order."""
    body = b"".join(pax_record(*record) for record in records)
    return raw_header(b"PaxHeaders/0", typeflag, size=len(body)) + padded(body)


def file(name: bytes, data: bytes = b"evil", **fields: int | bytes) -> bytes:
    """A regular file."""
    return raw_header(name, b"0", size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def directory(name: bytes, mode: int = 0o755) -> bytes:
    """A directory."""
    return raw_header(name, b"5", mode=mode)


def symlink(name: bytes, target: bytes) -> bytes:
    """A symbolic link."""
    return raw_header(name, b"2", linkname=target, mode=0o777)


def hardlink(name: bytes, target: bytes) -> bytes:
    """A hard link."""
    return raw_header(name, b"1", linkname=target)


END = bytes(2 * BLOCK)


def archive(*members: bytes) -> bytes:
    """Members followed by the end marker."""
    return b"".join(members) + END


@dataclass(frozen=True, slots=True)
class EvilCase:
    """One archive and what must come of it.

    Attributes:
        id: short name, usable as a test id.
        threat: row of the threat table.
        build: makes the archive, given the absolute path of the canary directory.
        refused: the archive must be refused; otherwise it must apply and leave `expect` in the root.
        expect: for archives that apply: paths below the root with the type letter `ls` shows, "-" file, "d", "l", "p".
            A leading "!" means that the path must not exist.
    """

    id: str
    threat: int
    build: Callable[[bytes], bytes]
    refused: bool
    expect: tuple[str, ...] = ()


def _attack(id_: str, threat: int, build: Callable[[bytes], bytes]) -> EvilCase:
    return EvilCase(id_, threat, build, refused=True)


def _twin(id_: str, threat: int, build: Callable[[bytes], bytes], *expect: str) -> EvilCase:
    return EvilCase(id_, threat, build, refused=False, expect=expect)


CORPUS: tuple[EvilCase, ...] = (
    # 1: names
    _attack("dotdot", 1, lambda _: archive(file(b"../escaped"))),
    _attack("dotdot-deep", 1, lambda _: archive(file(b"a/../../escaped"))),
    _attack("dotdot-absolute", 1, lambda _: archive(file(b"/../escaped"))),
    _attack("dotdot-end", 1, lambda _: archive(directory(b"a/../.."))),
    _attack("dotdot-pax", 1, lambda _: archive(pax([(b"path", b"../escaped")]), file(b"fine"))),
    _attack(
        "dotdot-longname", 1, lambda _: archive(raw_header(b"L", b"L", size=11) + padded(b"../escaped\0"), file(b"x"))
    ),
    _attack("dotdot-prefix", 1, lambda _: archive(file(b"escaped", tail=b".."))),
    _attack("nul-pax", 1, lambda _: archive(pax([(b"path", b"a\0b")]), file(b"fine"))),
    _attack("path-64k", 1, lambda _: archive(pax([(b"path", b"a/" * 32768)]), file(b"x"))),
    _attack("component-300", 1, lambda _: archive(pax([(b"path", b"n" * 300)]), file(b"x"))),
    _attack("depth-1000", 1, lambda _: archive(pax([(b"path", b"d/" * 1000 + b"f")]), file(b"x"))),
    _twin("absolute-rerooted", 1, lambda canary: archive(file(canary + b"/hit")), "!hit"),
    _twin("dotdot-inside", 1, lambda _: archive(directory(b"a"), file(b"a/../b")), "-b"),
    _twin(
        "odd-names",
        1,
        lambda _: archive(file(b"back\\slash"), file(b"new\nline"), file(b"..."), file(b"..x")),
        "-...",
        "-..x",
    ),
    _twin("dot-prefix", 1, lambda _: archive(directory(b"./"), directory(b"./a/"), file(b"./a/b")), "-a/b"),
    # 2: links on the way
    _twin("symlink-then-write", 2, lambda canary: archive(symlink(b"d", canary), file(b"d/hit")), "ld"),
    _twin("symlink-dotdot", 2, lambda _: archive(symlink(b"d", b"../../../.."), file(b"d/tmp/hit")), "-tmp/hit"),
    _twin("symlink-chain", 2, lambda c: archive(symlink(b"a", b"b"), symlink(b"b", c), file(b"a/x/hit")), "la", "lb"),
    _twin("symlink-file-overwrite", 2, lambda c: archive(symlink(b"f", c + b"/keep"), file(b"f")), "-f"),
    _twin("symlink-then-dir", 2, lambda c: archive(symlink(b"d", c), raw_header(b"d", b"5", mode=0o000)), "dd"),
    _twin("symlink-dir-slash", 2, lambda c: archive(symlink(b"d", c), raw_header(b"d/", b"5", mode=0o000)), "dd"),
    _twin("symlink-fifo", 2, lambda c: archive(symlink(b"d", c + b"/keep"), raw_header(b"d", b"6", mode=0o777)), "pd"),
    _attack("symlink-loop", 2, lambda _: archive(symlink(b"a", b"b"), symlink(b"b", b"a"), file(b"a/x"))),
    _twin(
        "var-run",
        2,
        lambda _: archive(directory(b"run"), directory(b"var"), symlink(b"var/run", b"/run"), file(b"var/run/pid")),
        "-run/pid",
        "lvar/run",
    ),
    _twin(
        "usr-merge",
        2,
        lambda _: archive(directory(b"usr"), directory(b"usr/lib"), symlink(b"lib", b"usr/lib"), file(b"lib/a.so")),
        "-usr/lib/a.so",
        "llib",
    ),
    # 3: the root
    _attack("root-symlink", 3, lambda canary: archive(symlink(b".", canary))),
    _attack("root-symlink-slash", 3, lambda canary: archive(symlink(b"/", canary), file(b"hit"))),
    _attack("root-file", 3, lambda _: archive(file(b"./"[:1]))),
    _attack("root-fifo", 3, lambda _: archive(raw_header(b".", b"6"))),
    _attack("root-dotdot", 3, lambda canary: archive(symlink(b"a/..", canary))),
    _attack("root-whiteout", 3, lambda _: archive(file(b".wh..", b""))),
    _twin("root-dir", 3, lambda _: archive(directory(b"./", 0o750), file(b"f")), "-f"),
    # 4: hard links
    _attack("hardlink-absolute", 4, lambda canary: archive(hardlink(b"x", canary + b"/keep"))),
    _attack("hardlink-dotdot", 4, lambda _: archive(hardlink(b"x", b"../keep"))),
    _attack("hardlink-through-link", 4, lambda c: archive(symlink(b"l", c), hardlink(b"x", b"l/keep"))),
    _attack("hardlink-self", 4, lambda _: archive(file(b"x"), hardlink(b"x", b"./x"))),
    _attack("hardlink-dir", 4, lambda _: archive(directory(b"d"), hardlink(b"x", b"d"))),
    _attack("hardlink-root", 4, lambda _: archive(hardlink(b"x", b"."))),
    _attack("hardlink-missing", 4, lambda _: archive(hardlink(b"x", b"nothing"))),
    _attack("hardlink-whited-out", 4, lambda _: archive(file(b".wh.gone", b""), hardlink(b"x", b"gone"))),
    _twin(
        "hardlink-of-symlink",
        4,
        lambda c: archive(symlink(b"l", c + b"/keep"), hardlink(b"x", b"l"), file(b"x")),
        "ll",
        "-x",
    ),
    _twin(
        "hardlink", 4, lambda _: archive(file(b"a"), hardlink(b"b", b"/a"), hardlink(b"c", b"./b")), "-a", "-b", "-c"
    ),
    # 5: header confusion
    _attack("negative-size", 5, lambda _: archive(raw_header(b"x", size=base256(-512, 12)))),
    _attack("huge-size", 5, lambda _: archive(raw_header(b"x", size=base256(1 << 62, 12)))),
    _attack("pax-negative-size", 5, lambda _: archive(pax([(b"size", b"-1")]), file(b"x"))),
    _attack("bad-octal", 5, lambda _: archive(raw_header(b"x", size=b"0x10"))),
    _attack("underscore-octal", 5, lambda _: archive(raw_header(b"x", size=b"1_0"))),
    _attack("checksum", 5, lambda _: archive(raw_header(b"x", checksum=b"000001\0 "))),
    _attack("unknown-type", 5, lambda _: archive(raw_header(b"x", b"Q"))),
    _attack("pax-bad-length", 5, lambda _: archive(raw_header(b"p", b"x", size=9) + padded(b"99 a=b\nxx"), file(b"x"))),
    _attack("pax-zero-length", 5, lambda _: archive(raw_header(b"p", b"x", size=6) + padded(b"0 a=b\n"), file(b"x"))),
    _attack("pax-orphan", 5, lambda _: archive(pax([(b"path", b"x")]))),
    _attack("truncated-header", 5, lambda _: file(b"x")[:100]),
    _attack("truncated-data", 5, lambda _: file(b"x", bytes(5000))[:2048]),
    _attack(
        "sparse-beyond",
        5,
        lambda _: archive(pax([(b"GNU.sparse.map", b"100,4"), (b"GNU.sparse.size", b"50")]), file(b"x")),
    ),
    _attack(
        "sparse-overlap",
        5,
        lambda _: archive(pax([(b"GNU.sparse.map", b"0,2,1,2"), (b"GNU.sparse.size", b"50")]), file(b"x")),
    ),
    # 6: whiteouts
    _attack("whiteout-empty", 6, lambda _: archive(file(b".wh.", b""))),
    _attack("whiteout-dotdot", 6, lambda _: archive(file(b"a/.wh...", b""))),
    _attack("whiteout-parent", 6, lambda _: archive(file(b"a/.wh.b/c", b""))),
    _attack("whiteout-dir", 6, lambda _: archive(directory(b".wh.x"))),
    _twin("whiteout-after", 6, lambda _: archive(file(b"x"), file(b".wh.x", b"")), "-x"),
    _twin(
        "aufs-links",
        6,
        lambda _: archive(
            directory(b".wh..wh.plnk"),
            file(b".wh..wh.plnk/1.2", b"data"),
            file(b".wh..wh.aufs", b""),
            hardlink(b"a", b".wh..wh.plnk/1.2"),
        ),
        "-a",
        "!.wh..wh.plnk",
        "!.wh..wh.aufs",
    ),
    # 7: overlay internals
    _twin(
        "overlay-xattrs",
        7,
        lambda _: archive(
            pax(
                [
                    (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
                    (b"SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                    (b"SCHILY.xattr.user.overlay.opaque", b"y"),
                ]
            ),
            directory(b"d"),
        ),
        "dd",
    ),
    _twin("device-zero", 7, lambda _: archive(raw_header(b"gone", b"3", major=0, minor=0)), "!gone"),
    # 8: special files
    _twin("fifo", 8, lambda _: archive(raw_header(b"p", b"6"), raw_header(b"p", b"6", mode=0o600)), "pp"),
    _twin("fifo-then-file", 8, lambda _: archive(raw_header(b"p", b"6"), file(b"p")), "-p"),
)
"""Archives that must be refused or be harmless wherever they are applied, each in both whiteout modes."""


class Canary:
    """A directory next to the target of an attack; `check` fails when anything in it changed."""

    def __init__(self, path: str) -> None:
        """Fill the (new) directory `path` with files of all kinds."""
        self.path = path
        os.makedirs(os.path.join(path, "sub", "deep"))
        for name in ("keep", "sub/keep", "sub/deep/keep"):
            with open(os.path.join(path, name), "wb") as out:
                out.write(name.encode())
            os.chmod(os.path.join(path, name), 0o640)
        os.symlink("keep", os.path.join(path, "link"))
        os.mkfifo(os.path.join(path, "fifo"))
        self._before = tree_state(path)

    def check(self) -> None:
        """Raise AssertionError, naming the first difference, unless everything is as it was."""
        after = tree_state(self.path)
        changed = {key for key in after.keys() | self._before.keys() if after.get(key) != self._before.get(key)}
        if changed:
            raise AssertionError(f"the canary was touched: {sorted(changed)}")


def tree_state(root: str, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Everything observable about a tree: type, mode, owner, links, device, attributes, content, times on request."""
    state: dict[str, tuple[object, ...]] = {}
    pending = [""]
    while pending:
        path = pending.pop()
        full = os.path.join(root, path) if path else root
        status = os.lstat(full)
        content: object = None
        if stat.S_ISREG(status.st_mode):
            with open(full, "rb") as file_:
                content = hashlib.file_digest(file_, "sha256").hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(full)
        elif stat.S_ISDIR(status.st_mode):
            names = sorted(os.listdir(full))
            content = tuple(names)
            pending += [os.path.join(path, name) for name in names]
        try:
            attributes = {
                name: os.getxattr(full, name, follow_symlinks=False)
                for name in os.listxattr(full, follow_symlinks=False)
            }
        except OSError:
            attributes = {}
        state[path] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_nlink if not stat.S_ISDIR(status.st_mode) else 0,
            status.st_rdev,
            tuple(sorted(attributes.items())),
            content,
            status.st_mtime_ns if times else 0,
        )
    return state


def zeros_gzip(size: int) -> bytes:
    """A gzip stream of `size` zero bytes, built without making them (about size/1000 bytes)."""
    import zlib

    codec = zlib.compressobj(9, zlib.DEFLATED, 31)
    chunk = bytes(1 << 24)
    parts = [codec.compress(chunk[: min(len(chunk), size - at)]) for at in range(0, size, len(chunk))]
    return b"".join(parts) + codec.flush()


def zeros_zstd(size: int) -> bytes:
    """A zstd stream of `size` zero bytes, written by hand: RLE blocks of 128 KiB, 4 bytes each."""
    full, rest = divmod(size, 1 << 17)
    blocks = [((1 << 17) << 3 | 2).to_bytes(3, "little") + b"\0"] * full
    blocks.append((rest << 3 | 3).to_bytes(3, "little") + b"\0")
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(17 - 10) << 3]) + b"".join(blocks)
