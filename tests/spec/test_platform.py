"""Platforms: spelling, and which image serves which machine (image-index.md; containerd's rules)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import Invalid
from lamina.spec.document import Node
from lamina.spec.platform import InvalidPlatform, Platform, best, of_machine

AMD64 = Platform.parse("linux/amd64")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("linux/riscv64", "linux/riscv64"),
        ("macos/arm64", "darwin/arm64"),
        ("windows/amd64", "windows/amd64"),
        ("linux/future9000", "linux/future9000"),
    ],
)
def test_spellings_come_down_to_one(text: str, shown: str):
    platform = Platform.parse(text)
    assert str(platform) == shown
    assert Platform.parse(str(platform)) == platform


@pytest.mark.parametrize(
    "text", ["", "/", "linux/", "/amd64", "linux//v7", "linux/arm/v7/x", "linux amd64", "linux/a\n", "*", "linux/é"]
)
def test_what_is_no_platform_is_refused(text: str):
    with pytest.raises(InvalidPlatform) as caught:
        Platform.parse(text, host=AMD64)
    assert isinstance(caught.value, Invalid)


def test_one_part_is_filled_up_from_the_host():
    arm = Platform.parse("linux/arm/v6")
    assert str(Platform.parse("arm64", host=AMD64)) == "linux/arm64"
    assert str(Platform.parse("386", host=AMD64)) == "linux/386"
    assert str(Platform.parse("windows", host=AMD64)) == "windows/amd64"
    assert str(Platform.parse("linux", host=arm)) == "linux/arm/v6"
    with pytest.raises(InvalidPlatform):
        Platform.parse("arm64")
    with pytest.raises(InvalidPlatform, match="unknown"):
        Platform.parse("toaster", host=AMD64)


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/amd64/v2", "linux/amd64"], "linux/amd64"),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/amd64/v3", ["linux/amd64/v4"], None),
        ("linux/amd64/v2", ["linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/386"], "linux/386"),
        ("linux/amd64", ["linux/386", "linux/amd64"], "linux/amd64"),
        ("linux/386", ["linux/amd64"], None),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], "linux/arm/v5"),
        ("linux/arm64", ["linux/arm/v7"], None),
        ("linux/arm64/v9", ["linux/arm64"], "linux/arm64"),
        ("linux/amd64", ["windows/amd64"], None),
        ("linux/amd64", ["unknown/unknown"], None),
        ("linux/amd64", [], None),
    ],
)
def test_which_image_serves_which_machine(wanted: str, offered: list[str], chosen: str | None):
    position = best(Platform.parse(wanted), [Platform.parse(text) for text in offered])
    assert (None if position is None else offered[position]) == chosen


def test_the_first_of_equals_is_taken():
    assert best(AMD64, [AMD64, AMD64]) == 0


def test_windows_versions_must_agree_as_far_as_asked():
    old = Platform("windows", "amd64", os_version="10.0.17763.1")
    new = Platform("windows", "amd64", os_version="10.0.20348.1")
    assert best(Platform("windows", "amd64", os_version="10.0.20348"), [old, new]) == 1
    assert best(Platform("windows", "amd64"), [old, new]) == 0


def test_the_json_form_round_trips():
    for platform in (AMD64, Platform("linux", "arm", "v6"), Platform("windows", "amd64", "", "10.0.1", ("win32k",))):
        assert Platform.from_node(Node(platform.to_json(), "index")) == platform


def test_machines_as_uname_names_them():
    assert str(of_machine("x86_64")) == "linux/amd64"
    assert str(of_machine("aarch64")) == "linux/arm64"
    assert str(of_machine("armv7l")) == "linux/arm/v7"
    assert str(of_machine("x86_64", "Darwin")) == "darwin/amd64"


_platforms = st.builds(
    lambda arch, variant: Platform.parse(f"linux/{arch}{variant}"),
    st.sampled_from(["amd64", "arm64", "arm", "386", "s390x"]),
    st.sampled_from(["", "/v1", "/v2", "/v5", "/v6", "/v7", "/v8", "/v9"]),
)


@given(_platforms, st.lists(_platforms, max_size=6))
def test_a_match_is_never_worse_than_another_and_exact_beats_all(wanted: Platform, offered: list[Platform]):
    position = best(wanted, offered)
    scores = [platform.score(wanted) for platform in offered]
    assert (position is None) == (not any(scores))
    if position is not None:
        assert scores[position] == max(scores)
    if wanted in offered:
        assert position == offered.index(wanted)
