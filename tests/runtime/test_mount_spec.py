"""The grammars of -v, --mount and --tmpfs (C54), with Docker's words for what they refuse."""

from __future__ import annotations

import pytest

from lamina.runtime import bundle
from lamina.runtime.mount_spec import InvalidMount, MountSpec, parse_mount, parse_tmpfs, parse_volume


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/data", MountSpec("volume", "/data")),
        ("name:/data", MountSpec("volume", "/data", "name")),
        ("name:/data:ro,nocopy", MountSpec("volume", "/data", "name", readonly=True, nocopy=True)),
        ("/host/./x/:/data/", MountSpec("bind", "/data", "/host/x", create_source=True)),
        (
            "/host:/data:ro,rslave",
            MountSpec("bind", "/data", "/host", readonly=True, propagation="rslave", create_source=True),
        ),
        ("./rel:/data", MountSpec("bind", "/data", "/cwd/rel", create_source=True)),
    ],
)
def test_volume(text, wanted):
    assert parse_volume(text, "/cwd") == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "invalid volume specification: ''"),
        ("a:b:c:d", "invalid volume specification"),
        ("name:", "invalid spec: name:: empty section between colons"),
        (
            "name:rel",
            "invalid volume specification: 'name:rel': invalid mount config for type \"volume\": invalid mount path: 'rel' mount",
        ),
        ("name:/x:rx", "invalid mode: rx"),
        ("name:/x:rshared", "invalid mode: rshared"),
        ("na me:/x", "includes invalid characters for a local volume name"),
        ("name:/", "destination can't be '/'"),
        ("name:/..", "destination can't be '/'"),
        ("name:/proc/1", "inside /proc"),
    ],
)
def test_volumes_that_make_no_sense(text, words):
    with pytest.raises(InvalidMount) as caught:
        parse_volume(text)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("target=/x", MountSpec("volume", "/x")),
        ("type=bind,source=/a,dst=/x,readonly", MountSpec("bind", "/x", "/a", readonly=True)),
        (
            "type=bind,src=/a,destination=/x,ro=false,bind-propagation=rshared,bind-nonrecursive",
            MountSpec("bind", "/x", "/a", propagation="rshared", recursive=False),
        ),
        (
            "type=volume,src=vol,dst=/x,volume-nocopy,volume-label=a=b,volume-subpath=d/e",
            MountSpec("volume", "/x", "vol", nocopy=True, labels={"a": "b"}, subpath="d/e"),
        ),
        (
            "type=tmpfs,dst=/x,tmpfs-size=64m,tmpfs-mode=700",
            MountSpec("tmpfs", "/x", tmpfs_size=64 << 20, tmpfs_mode=0o700),
        ),
        ("type=image,src=busybox,dst=/x", MountSpec("image", "/x", "busybox", readonly=True)),
        ('type=bind,"source=/a,b",dst=/x', MountSpec("bind", "/x", "/a,b")),
    ],
)
def test_mount(text, wanted):
    assert parse_mount(text) == wanted
    assert MountSpec.from_json(wanted.to_json()) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type=bind,dst=/x", 'invalid mount config for type "bind": field Source must not be empty'),
        ("type=bind,src=rel,dst=/x", "mount path must be absolute"),
        ("type=volume", "target is required"),
        ("dst", "invalid field 'dst' must be a key=value pair"),
        ("dst=/x,colour=red", "unexpected key 'colour' in 'colour=red'"),
        ("type=nfs,dst=/x", "mount type unknown"),
        ("type=bind,src=/a,dst=/x,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
        ("type=tmpfs,src=/a,dst=/x", "field Source must not be specified"),
        ("type=bind,src=/a,dst=/x,readonly=maybe", "invalid value for readonly: maybe"),
        ("type=bind,src=/a,dst=/x,bind-propagation=shared;rw", "invalid propagation mode"),  # threat 22
        ('type=bind,src=/a,dst=/x,"bind-propagation=shared,rw"', "invalid propagation mode"),  # threat 22
        ("type=volume,src=vol,dst=/x,volume-subpath=../../etc", "subpath must be a relative path"),
    ],
)
def test_mounts_that_make_no_sense(text, words):
    with pytest.raises(InvalidMount) as caught:
        parse_mount(text)
    assert words in caught.value.message


def test_tmpfs():
    assert parse_tmpfs("/x:size=1g,mode=1770,exec,ro") == MountSpec(
        "tmpfs", "/x", readonly=True, tmpfs_size=1 << 30, tmpfs_mode=0o1770, tmpfs_exec=True
    )
    for text in ("/x:size=lots", "/x:upperdir=/etc", "/x:mode=9", "rel"):
        with pytest.raises(InvalidMount):
            parse_tmpfs(text)


@pytest.mark.parametrize("option", ["rw,suid", "upperdir=/etc", "size=1;rw", "context=x", "", "mode=0777\nsuid"])
def test_no_other_option_reaches_the_runtime(option):  # threat 22
    with pytest.raises(bundle.UnsafeMountOption):
        bundle.OciMount("/x", "/y", "bind", (option,))
