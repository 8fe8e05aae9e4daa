"""Which extended attributes travel with a layer (threats 7, 8)."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from lamina.errors import Unsupported
from lamina.layer.apply import WhiteoutMode, apply_layer
from lamina.layer.diff import changes_overlay, changes_trees, write_layer, write_tree
from lamina.layer.xattrs import read_xattrs, steers_store

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def test_attributes_of_stores_are_recognised() -> None:
    assert steers_store("trusted.overlay.redirect")
    assert steers_store("user.overlay.whiteout")
    assert steers_store("user.containers.override_stat")
    assert not steers_store("user.overlays")
    assert not steers_store("security.capability")


def test_file_systems_without_attributes_have_none() -> None:
    assert read_xattrs("/proc/self/status") == {}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_capabilities_and_trusted_attributes_round_trip(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "ping").write_text("x")
    os.utime(source / "ping", (5, 5))  # layers keep whole seconds
    os.setxattr(source / "ping", "security.capability", CAPABILITY)
    os.setxattr(source / "ping", "trusted.note", b"t")
    out = io.BytesIO()
    write_tree(out.write, str(source))
    apply_layer(io.BytesIO(out.getvalue()), str(target), whiteouts=WhiteoutMode.REMOVE)
    assert read_xattrs(str(target / "ping")) == {"security.capability": CAPABILITY, "trusted.note": b"t"}
    assert [str(each) for each in changes_trees(str(source), str(target))] == []
    os.removexattr(target / "ping", "security.capability")
    assert [str(each) for each in changes_trees(str(source), str(target))] == ["C /ping"]


def test_files_whose_data_stayed_below_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.setxattr(tmp_path / "f", "user.overlay.metacopy", b"")
    with pytest.raises(Unsupported, match="metacopy"):
        write_layer(io.BytesIO().write, str(tmp_path), changes_overlay(str(tmp_path), []))
