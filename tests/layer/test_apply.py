"""Applying layers: attributes, replacement, hard links, parents, policies (S01, S04, threats 4, 7, 8, A11, A20)."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from lamina.errors import Conflict, Denied, Unavailable
from lamina.layer.apply import (
    ApplyFailed,
    Devices,
    LowerEntry,
    NeedsParents,
    Ownership,
    WhiteoutMode,
    apply_layer,
)
from lamina.layer.entry import BadArchive, Kind
from lamina.layer.limits import LayerLimit, Limits
from lamina.testing.evil_tar import archive, directory, file, hardlink, padded, pax, raw_header, symlink, tree_state

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.root
@needs_root
def test_all_attributes_arrive(overlay, root: Path) -> None:
    done = overlay(
        archive(
            raw_header(b"d/", b"5", mode=0o1777, uid=3, gid=4, mtime=100),
            pax([(b"mtime", b"5.25"), (b"SCHILY.xattr.user.note", b"v\0w")]),
            raw_header(b"d/f", size=2, mode=0o4755, uid=1, gid=2) + padded(b"hi"),
            raw_header(b"d/l", b"2", linkname=b"dangling", uid=5, gid=6, mtime=7),
            raw_header(b"d/p", b"6", mode=0o622, uid=7, mtime=8),
            raw_header(b"d/c", b"3", mode=0o666, major=1, minor=3, mtime=9),
            raw_header(b"d/b", b"4", mode=0o660, major=7, minor=200),
        ),
    )
    f = (root / "d/f").stat()
    assert (f.st_mode, f.st_uid, f.st_gid, f.st_mtime_ns) == (stat.S_IFREG | 0o4755, 1, 2, 5_250_000_000)
    assert os.getxattr(root / "d/f", "user.note") == b"v\0w"
    link = (root / "d/l").lstat()
    assert (link.st_uid, link.st_gid, link.st_mtime) == (5, 6, 7)
    assert mode_of(root / "d/p") == 0o622  # whatever the umask is
    assert (root / "d/p").lstat().st_uid == 7
    assert os.major((root / "d/c").lstat().st_rdev) == 1
    assert stat.S_ISBLK((root / "d/b").lstat().st_mode)
    d = (root / "d").stat()
    assert (stat.S_IMODE(d.st_mode), d.st_uid, d.st_gid, d.st_mtime) == (
        0o1777,
        3,
        4,
        100,
    )  # time set after the content
    assert (done.entries, done.files, done.bytes, done.implicit_dirs) == (6, 1, 2 + len("dangling"), ())


@pytest.mark.root
@needs_root
def test_file_capabilities_survive_the_change_of_owner(overlay, root: Path) -> None:  # threat 8
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    overlay(archive(pax([(b"SCHILY.xattr.security.capability", capability)]), file(b"ping", b"", uid=9, mode=0o755)))
    assert os.getxattr(root / "ping", "security.capability") == capability


@pytest.mark.root
@needs_root
def test_overlay_and_store_attributes_are_dropped(overlay, root: Path) -> None:  # threat 7
    names = (
        b"trusted.overlay.redirect",
        b"user.overlay.opaque",
        b"trusted.overlay.opaque",
        b"user.containers.override_stat",
        b"user.fuseoverlayfs.origin",
    )
    done = overlay(archive(pax([(b"SCHILY.xattr." + name, b"y") for name in names]), directory(b"d")))
    assert os.listxattr(root / "d") == []
    assert done.xattrs_skipped == len(names)


def test_a_read_only_directory_can_hold_entries_that_follow_it(overlay, root: Path) -> None:
    overlay(archive(directory(b"d", 0o555), file(b"d/f"), directory(b"d/e", 0o500), file(b"d/e/f")))
    assert mode_of(root / "d") == 0o555
    assert (root / "d/e/f").exists()
    os.chmod(root / "d", 0o700)
    os.chmod(root / "d/e", 0o700)


def test_order_of_a_directory_and_its_content_does_not_matter(overlay, root: Path) -> None:
    overlay(archive(file(b"d/f"), raw_header(b"d", b"5", mode=0o711, mtime=50)))
    assert mode_of(root / "d") == 0o711
    assert (root / "d").stat().st_mtime == 50


def test_the_last_of_two_entries_wins(overlay, root: Path) -> None:
    overlay(
        archive(
            file(b"f", b"1"), symlink(b"f", b"x"), file(b"f", b"2"), directory(b"d"), file(b"d/x"), file(b"d", b"3")
        )
    )
    assert (root / "f").read_bytes() == b"2"
    assert (root / "d").read_bytes() == b"3"


def test_an_upper_layer_replaces_types_and_attributes(merged, root: Path) -> None:
    merged(
        archive(
            directory(b"d", 0o700),
            file(b"d/kept"),
            file(b"becomes-dir"),
            directory(b"becomes-file"),
            file(b"becomes-file/x"),
            symlink(b"becomes-dir2", b"d"),
        )
    )
    os.setxattr(root / "d", "user.old", b"1")
    merged(
        archive(
            directory(b"d", 0o755), directory(b"becomes-dir"), file(b"becomes-file", b"now"), directory(b"becomes-dir2")
        )
    )
    assert mode_of(root / "d") == 0o755
    assert "user.old" not in os.listxattr(root / "d")
    assert (root / "d/kept").exists()
    assert (root / "becomes-dir").is_dir()
    assert (root / "becomes-file").read_bytes() == b"now"
    assert not (root / "becomes-dir2").is_symlink()


def test_writing_a_file_does_not_write_into_its_old_inode(merged, root: Path, tmp_path: Path) -> None:
    merged(archive(file(b"f", b"old")))
    os.link(root / "f", tmp_path / "shared")  # as a vfs snapshot might share it
    merged(archive(file(b"f", b"new")))
    assert (tmp_path / "shared").read_bytes() == b"old"


def test_hard_links_within_a_layer(overlay, root: Path) -> None:
    overlay(
        archive(
            file(b"a"),
            directory(b"d"),
            hardlink(b"d/b", b"a"),
            symlink(b"s", b"a"),
            hardlink(b"t", b"s"),
            hardlink(b"d/b", b"a"),
        )
    )
    assert (root / "a").stat().st_ino == (root / "d/b").stat().st_ino
    assert (root / "t").is_symlink()


def test_a_hard_link_through_a_directory_link_inside(overlay, root: Path) -> None:  # threat 4, the twin
    overlay(archive(file(b"usr/bin/perl"), symlink(b"bin", b"usr/bin"), hardlink(b"bin/perl5", b"bin/perl")))
    assert (root / "usr/bin/perl5").stat().st_nlink == 2


def test_hard_links_to_lower_layers_need_the_merged_tree(overlay, merged, root: Path) -> None:
    layer = archive(hardlink(b"new", b"lower/file"))
    with pytest.raises(NeedsParents) as caught:
        overlay(layer)
    assert (caught.value.entry, caught.value.path) == ("new", "lower/file")
    assert isinstance(caught.value, Conflict)
    merged(archive(file(b"lower/file")))
    merged(layer)
    assert (root / "new").stat().st_nlink == 2


def test_a_hard_link_to_something_this_layer_hides_is_damage(overlay) -> None:  # threat 4
    with pytest.raises(BadArchive):
        overlay(archive(file(b"d/.wh..wh..opq", b""), hardlink(b"x", b"d/file")))


@needs_root  # trusted.overlay.opaque
def test_implicit_parents_are_reported(overlay, root: Path) -> None:
    done = overlay(
        archive(
            file(b"etc/app/conf"), directory(b"usr"), file(b"usr/lib/x"), file(b"gone/new/f"), file(b".wh.gone", b"")
        )
    )
    assert done.implicit_dirs == ("etc", "etc/app", "usr/lib")
    assert mode_of(root / "etc") == mode_of(root / "gone/new") == 0o755


def test_a_lower_lookup_settles_parents(overlay, root: Path) -> None:
    lower = {
        "etc": LowerEntry(Kind.DIR, 0o750, os.geteuid(), os.getegid(), 5 * 10**9, {"user.x": b"1"}),
        "lib": LowerEntry(Kind.SYMLINK, linkname="/usr/lib"),
        "usr": LowerEntry(Kind.DIR, 0o711),
        "file": LowerEntry(Kind.FILE),
    }
    done = overlay(
        archive(file(b"etc/conf"), file(b"lib/a.so"), file(b"file/below"), file(b"etc/.wh.x", b"")), lower=lower.get
    )
    assert done.implicit_dirs == ()
    assert mode_of(root / "etc") == 0o750
    assert (root / "etc").stat().st_mtime == 5
    assert os.getxattr(root / "etc", "user.x") == b"1"
    assert (root / "usr/lib/a.so").exists()
    assert not (root / "lib").exists()
    assert mode_of(root / "usr") == 0o711
    assert (root / "file/below").exists()
    assert not os.path.lexists(root / "etc/x")  # hides nothing


def test_a_file_as_parent_is_damage(overlay) -> None:
    with pytest.raises(BadArchive, match="'f/x'"):
        overlay(archive(file(b"f"), file(b"f/x")))


def test_devices_can_be_skipped(overlay, root: Path) -> None:  # threat 8
    done = overlay(archive(raw_header(b"null", b"3", major=1, minor=3), file(b"f")), devices=Devices.SKIP)
    assert done.devices_skipped == 1
    assert os.listdir(root) == ["f"]


def test_ownership_can_be_ignored(overlay, root: Path) -> None:  # A20
    overlay(archive(file(b"f", uid=12, gid=13), directory(b"d"), symlink(b"l", b"f")), ownership=Ownership.IGNORE)
    assert (root / "f").stat().st_uid == os.geteuid()


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("whiteouts", WhiteoutMode)
def test_an_unprivileged_user_can_unpack(whiteouts: WhiteoutMode, tmp_path: Path) -> None:  # A20
    data = archive(
        directory(b"d", 0o555),
        file(b"d/f", uid=5, mode=0o4755),
        raw_header(b"null", b"3", major=1, minor=3),
        raw_header(b"p", b"6"),
        symlink(b"l", b"d"),
        hardlink(b"h", b"d/f"),
        pax([(b"SCHILY.xattr.security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))]),
        file(b"cap"),
    )
    root = tmp_path / "root"
    root.mkdir()
    os.chown(root, 65534, 65534)
    (tmp_path / "layer.tar").write_bytes(data)
    for each in [tmp_path, *tmp_path.parents]:
        if not each.stat().st_mode & 0o001:
            os.chmod(each, each.stat().st_mode | 0o001)
    script = (
        "import os, sys\n"
        "from lamina.layer.apply import *\n"
        "stream = open(sys.argv[1], 'rb'); root = os.open(sys.argv[2], os.O_RDONLY)\n"
        "import lamina.layer.xattrs\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"done = apply_layer(stream, root, whiteouts=WhiteoutMode.{whiteouts.name})\n"
        "print(done.devices_skipped, done.xattrs_skipped, done.files)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "layer.tar"), str(root)], capture_output=True, text=True
    )
    assert done.stdout.split() == ["1", "1", "2"], done.stderr
    assert (root / "d/f").stat().st_uid == 65534
    assert mode_of(root / "d") == 0o555


def test_a_root_that_cannot_be_opened_is_a_typed_error(tmp_path: Path) -> None:  # F7
    with pytest.raises(ApplyFailed, match="cannot unpack layer: No such file or directory"):
        apply_layer(io.BytesIO(archive(file(b"f", b"x"))), str(tmp_path / "missing"), whiteouts=WhiteoutMode.REMOVE)


@pytest.mark.root
@needs_root
def test_a_full_disk_is_a_typed_error(tmp_path: Path) -> None:  # F6, F7
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=True)
    try:
        with pytest.raises(ApplyFailed, match="cannot unpack 'big': No space left on device") as caught:
            apply_layer(io.BytesIO(archive(file(b"big", bytes(1 << 20)))), str(small), whiteouts=WhiteoutMode.REMOVE)
        assert isinstance(caught.value, Unavailable)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.root
@needs_root
def test_owners_outside_the_user_namespace_are_denied_with_a_way_out(tmp_path: Path) -> None:  # A20
    (tmp_path / "layer.tar").write_bytes(archive(file(b"f", uid=1234)))
    (tmp_path / "root").mkdir()
    script = (
        "import sys\nfrom lamina.layer.apply import *\n"
        "try: apply_layer(open(sys.argv[1], 'rb'), sys.argv[2], whiteouts=WhiteoutMode.REMOVE)\n"
        "except ApplyDenied as error: print(error.entry, error.hint)\n"
    )
    done = subprocess.run(
        ["unshare", "-U", "-r", sys.executable, "-c", script, str(tmp_path / "layer.tar"), str(tmp_path / "root")],
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr:
        pytest.skip("no user namespaces")
    assert done.stdout.startswith("f unpack as root"), done.stderr
    assert issubclass(__import__("lamina.layer.apply", fromlist=["x"]).ApplyDenied, Denied)


def test_no_descriptors_leak(merged, root: Path) -> None:  # F7
    before = len(os.listdir("/proc/self/fd"))
    merged(
        archive(
            *[file(b"%d/%d/f" % (n % 40, n)) for n in range(400)],
            *[hardlink(b"h%d" % n, b"%d/%d/f" % (n % 40, n)) for n in range(400)],
        )
    )
    with pytest.raises(BadArchive):
        merged(archive(file(b"a/b/c/d"), hardlink(b"x", b"none")))
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(os.listdir(root)) == 441


def test_few_descriptors_suffice(root: Path) -> None:  # F7: RLIMIT_NOFILE
    import resource

    data = archive(*[file(b"%d/%d/%d/f" % (n % 7, n % 50, n)) for n in range(300)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 130, hard))
    try:
        apply_layer(io.BytesIO(data), str(root), whiteouts=WhiteoutMode.OVERLAY)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_total_size_is_bounded(overlay) -> None:  # threat 9
    with pytest.raises(LayerLimit, match="more than 5000 bytes"):
        overlay(archive(file(b"a", bytes(3000)), file(b"b", bytes(3000))), limits=Limits(max_bytes=5000))


def test_times_that_no_system_has(overlay, root: Path) -> None:
    overlay(
        archive(
            pax([(b"mtime", b"99999999999999999999")]),
            file(b"f"),
            pax([(b"mtime", b"-99999999999999999999")]),
            directory(b"d"),
        )
    )
    assert (root / "f").stat().st_mtime > 10**9


def test_the_stream_is_read_to_its_end(root: Path) -> None:  # threat 10: digests must cover every byte
    stream = io.BytesIO(archive(file(b"a")) + bytes(9000))
    done = apply_layer(stream, str(root), whiteouts=WhiteoutMode.OVERLAY)
    assert stream.tell() == done.stream_bytes == len(stream.getvalue())


def test_root_by_descriptor(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY)
    apply_layer(io.BytesIO(archive(file(b"a/b"))), fd, whiteouts=WhiteoutMode.OVERLAY)
    os.close(fd)
    assert (root / "a/b").exists()


@pytest.mark.parametrize("step", [1, 511, 100_000])
def test_a_real_tree_arrives_as_tar_unpacks_it(step: int, tmp_path: Path) -> None:
    source = Path(io.__file__).parent / ("json" if step == 1 else "asyncio")
    out = tmp_path / "real.tar"
    with tarfile.open(out, "w") as tar:
        tar.add(source, "lib", filter=lambda member: None if "__pycache__" in member.name else member)

    class Steps:
        stream = open(out, "rb")

        def read(self, n: int, /) -> bytes:
            return self.stream.read(min(n, step))

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    apply_layer(Steps(), str(ours), whiteouts=WhiteoutMode.REMOVE)
    Steps.stream.close()
    subprocess.run(["tar", "-xpf", str(out), "-C", str(theirs)], check=True)
    os.utime(ours, ns=(0, 0))
    os.utime(theirs, ns=(0, 0))
    assert tree_state(str(ours)) == tree_state(str(theirs))
    shutil.rmtree(ours)
