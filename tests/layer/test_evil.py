"""Hostile archives and their legitimate twins (threats 1-8)."""

from __future__ import annotations

import io
import os
import stat
import threading
from pathlib import Path

import pytest

from lamina.errors import LaminaError
from lamina.layer.apply import WhiteoutMode, apply_layer
from lamina.testing import evil_tar
from lamina.testing.evil_tar import CORPUS, Canary, EvilCase, archive, directory, file, hardlink, symlink

_LETTERS = {stat.S_IFREG: "-", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p", stat.S_IFCHR: "c"}


@pytest.mark.parametrize("mode", WhiteoutMode)
@pytest.mark.parametrize("case", CORPUS, ids=lambda case: f"{case.threat}-{case.id}")
def test_nothing_leaves_the_root(case: EvilCase, mode: WhiteoutMode, tmp_path: Path) -> None:
    if mode is WhiteoutMode.OVERLAY and os.geteuid() != 0:
        pytest.skip("opaque markers of overlayfs need root")
    canary = Canary(str(tmp_path / "canary"))
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "keep").write_text("a neighbour that ../ would find")
    data = case.build(os.fsencode(canary.path))
    if case.refused:
        with pytest.raises(LaminaError):
            apply_layer(io.BytesIO(data), str(root), whiteouts=mode)
    else:
        apply_layer(io.BytesIO(data), str(root), whiteouts=mode)
        for expected in case.expect:
            letter, path = expected[0], root / expected[1:]
            if letter == "!":
                assert not os.path.lexists(path)
            else:
                assert _LETTERS[stat.S_IFMT(path.lstat().st_mode)] == letter
    canary.check()
    assert sorted(os.listdir(tmp_path)) == ["canary", "keep", "root"]
    assert not root.is_symlink()
    assert root.is_dir()


def test_refusals_name_the_entry(overlay) -> None:  # threat 1
    with pytest.raises(LaminaError, match=r"'a/\.\./\.\./escaped'"):
        overlay(archive(file(b"fine"), file(b"a/../../escaped")))


def test_absolute_links_resolve_inside_the_root(overlay, root: Path) -> None:  # threat 2, the twin of moby#52655
    overlay(archive(symlink(b"etc", b"/private/etc"), file(b"etc/passwd", b"inside")))
    assert (root / "private/etc/passwd").read_bytes() == b"inside"


def test_a_second_layer_cannot_use_links_of_the_first(merged, root: Path, tmp_path: Path) -> None:  # threats 2, 3
    canary = Canary(str(tmp_path / "canary"))
    target = os.fsencode(canary.path)
    merged(archive(symlink(b"out", target), symlink(b"up", b"../" * 30 + target[1:])))
    merged(
        archive(
            file(b"out/hit"),
            file(b"up/hit"),
            file(b"out/.wh.keep", b""),
            file(b"up/.wh..wh..opq", b""),
            directory(b"out/sub", 0o777),
        ),
    )
    canary.check()
    assert (root / os.fsdecode(target[1:]) / "hit").read_bytes() == b"evil"


def test_directory_attributes_are_not_set_through_a_link_made_later(overlay, root: Path, tmp_path: Path) -> None:
    # threat 2: attributes of directories are set at the end, when the name may be a link
    canary = Canary(str(tmp_path / "canary"))
    overlay(archive(directory(b"d", 0o700), symlink(b"d", os.fsencode(canary.path)), directory(b"e/f", 0o711)))
    canary.check()
    assert (root / "d").is_symlink()


def test_swapping_directories_while_unpacking_does_not_lead_out(tmp_path: Path) -> None:  # threat 2
    canary = Canary(str(tmp_path / "canary"))
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    stop = threading.Event()

    def swap() -> None:
        here = str(root)
        while not stop.is_set():
            try:
                os.rename(f"{here}/d", f"{here}/real")
                os.symlink(canary.path, f"{here}/d")
                os.unlink(f"{here}/d")
                os.rename(f"{here}/real", f"{here}/d")
            except OSError:
                pass
            if not os.path.lexists(f"{here}/d"):
                try:
                    os.mkdir(f"{here}/d")
                except OSError:
                    pass

    thread = threading.Thread(target=swap)
    thread.start()
    members = [
        directory(b"d", 0o777),
        file(b"d/keep"),
        hardlink(b"d/x", b"d/keep"),
        symlink(b"d/link", b"/"),
        file(b".wh.d", b""),
        file(b"d/.wh..wh..opq", b""),
        directory(b"d/sub", 0o777),
        evil_tar.raw_header(b"d/fifo", b"6", mode=0o777),
    ]
    try:
        for mode in WhiteoutMode:
            for _ in range(150):
                try:
                    apply_layer(io.BytesIO(archive(*members)), str(root), whiteouts=mode)
                except LaminaError:
                    pass  # losing the race is fine, leaving the root is not
    finally:
        stop.set()
        thread.join()
    canary.check()


def test_every_truncation_is_noticed(root: Path) -> None:  # threats 5, 10
    data = archive(directory(b"d"), file(b"d/f", bytes(1500)), evil_tar.pax([(b"path", b"p" * 200)]), file(b"x"))
    boundaries = {0, 512, 512 + 512 + 1536, len(data) - 1024}
    for cut in range(0, len(data) - 1024, 64):
        if cut in boundaries:
            continue
        with pytest.raises(LaminaError):
            apply_layer(io.BytesIO(data[:cut]), str(root), whiteouts=WhiteoutMode.REMOVE)
