"""USER against an image's passwd and group files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.errors import Invalid
from lamina.runtime import users
from lamina.runtime.users import User


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nbroken line\nweb:x:33:34::/var/www:\n77:x:500:501::/odd:\n"
        "huge:x:99999999999:0::/:\n"
    )
    (tmp_path / "etc/group").write_text("root:x:0:\nwww:x:34:\nadm:x:4:web,77\nstaff:x:50:web\n12:x:1200:\n")
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "user"),
    [
        ("", User(0, 0, (), "/root", "root")),
        ("0", User(0, 0, (), "/root", "root")),
        ("web", User(33, 34, (4, 50), "/var/www", "web")),
        ("33", User(33, 34, (4, 50), "/var/www", "web")),
        ("web:staff", User(33, 50, (), "/var/www", "web")),
        ("web:", User(33, 34, (4, 50), "/var/www", "web")),
        (":staff", User(0, 50, (), "/root", "root")),
        ("1234", User(1234, 0, (), "/", "")),
        ("1234:4321", User(1234, 4321, (), "/", "")),
        ("77", User(500, 501, (4,), "/odd", "77")),
        ("0:12", User(0, 1200, (), "/root", "root")),
    ],
)
def test_forms(image: Path, spec: str, user: User):
    assert users.resolve(str(image), spec) == user


def test_group_add(image: Path):
    assert users.resolve(str(image), "web:staff", ["adm", "999"]).additional_gids == (4, 999)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bob", "unable to find user bob: no matching entries in passwd file"),
        ("web:nope", "unable to find group nope: no matching entries in group file"),
        ("-1", "unable to find user -1: no matching entries in passwd file"),
        ("huge", "unable to find user huge: no matching entries in passwd file"),
    ],
)
def test_docker_words_for_unknown_names(image: Path, spec: str, message: str):
    with pytest.raises(users.NoSuchUser) as caught:
        users.resolve(str(image), spec)
    assert caught.value.message == message


def test_ids_out_of_range(image: Path):
    with pytest.raises(Invalid, match="must be in range 0-2147483647"):
        users.resolve(str(image), "4294967296")


def test_an_image_without_the_files(tmp_path: Path):
    assert users.resolve(str(tmp_path), "5:6") == User(5, 6)
    with pytest.raises(users.NoSuchUser):
        users.resolve(str(tmp_path), "root")


def test_links_stay_inside(image: Path):  # threat 15
    (image / "etc/passwd").rename(image / "etc/real")
    (image / "etc/passwd").symlink_to("/etc/real")
    assert users.resolve(str(image), "web").uid == 33
    (image / "etc/passwd").unlink()
    (image / "etc/passwd").symlink_to("../../../../../../etc/hostname")
    with pytest.raises(users.UnsafeUserDatabase, match="leads nowhere"):
        users.resolve(str(image), "web")
