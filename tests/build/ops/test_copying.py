"""COPY and ADD on real directories: what is selected, how it is keyed, where it lands (features D24-D30, D44)."""

from __future__ import annotations

import io
import os
import resource
import stat
import tarfile
from datetime import timedelta
from pathlib import Path

import pytest

from lamina.build.cache.statcache import StatCache
from lamina.build.graph.definitions import Copy
from lamina.build.ops.copying import CopyConflict, copy_into
from lamina.build.ops.modes import InvalidMode, parse_mode
from lamina.build.ops.selection import content_digest, select
from lamina.build.ops.tree import MissingSource, SourceTree
from lamina.build.ops.unpack import unpack_archives
from lamina.spec.timestamp import utc_now
from lamina.store.db import Database

MOMENT = 315_532_801 * 10**9  # 1980-01-01T00:00:01Z


class Patterns:
    """Ignore rules from two plain sets."""

    def __init__(self, *excluded: str, kept: tuple[str, ...] = ()) -> None:
        self._excluded, self._kept = excluded, kept

    def excluded(self, path: str) -> bool:
        if path in self._kept:
            return False
        return any(path == one or path.startswith(f"{one}/") for one in self._excluded)

    def may_contain_included(self, path: str) -> bool:
        return any(one.startswith(f"{path}/") for one in self._kept)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "html" / "deep").mkdir(parents=True)
    (root / "html" / "index.html").write_text("hello")
    (root / "html" / "deep" / "page.html").write_text("page")
    (root / "hello.c").write_text("int main;")
    (root / "other.c").write_text("int other;")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("hello.c")
    return root


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\nstaff:x:50:\n")
    (root / "usr" / "share" / "nginx" / "html").mkdir(parents=True)
    (root / "var").mkdir()
    (root / "var" / "run").symlink_to("/run")
    (root / "run").mkdir()
    return root


def run(
    context: Path, image: Path, *sources: str, dest: str, ignore: Patterns | None = None, **options: object
) -> None:
    copy = Copy(sources, dest, **options)  # type: ignore[arg-type]
    with SourceTree(str(context), ignore) as tree:
        rest = unpack_archives(str(image), tree, select(tree, copy), copy, time_ns=MOMENT)
        copy_into(str(image), tree, rest, copy, time_ns=MOMENT)


def key(context: Path, *sources: str, ignore: Patterns | None = None, **options: object) -> str:
    with SourceTree(str(context), ignore) as tree:
        return str(content_digest(tree, Copy(sources, "/", **options)))  # type: ignore[arg-type]


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() or path.is_symlink())


class TestWhereThingsLand:
    def test_a_file_to_a_path(self, context: Path, image: Path) -> None:  # S35
        run(context, image, "html/index.html", dest="/usr/share/nginx/html/index.html")
        assert (image / "usr/share/nginx/html/index.html").read_text() == "hello"

    def test_an_existing_directory_without_slash_receives_the_file(self, context: Path, image: Path) -> None:  # S35
        run(context, image, "./hello.c", dest="/usr")
        assert (image / "usr/hello.c").exists()

    def test_a_new_path_without_slash_is_the_file(self, context: Path, image: Path) -> None:
        run(context, image, "hello.c", dest="/src/main.c")
        assert (image / "src/main.c").read_text() == "int main;"

    def test_a_directory_copies_its_contents(self, context: Path, image: Path) -> None:
        run(context, image, "html", dest="/srv")
        assert files(image / "srv") == ["deep/page.html", "index.html"]

    def test_the_context_itself(self, context: Path, image: Path) -> None:
        run(context, image, ".", dest="/app/")
        assert "html/deep/page.html" in files(image / "app")
        assert (image / "app/link").is_symlink()  # inside a directory a link stays a link

    def test_a_link_named_as_source_is_followed(self, context: Path, image: Path) -> None:
        run(context, image, "link", dest="/")
        assert (image / "link").read_text() == "int main;"
        assert not (image / "link").is_symlink()

    def test_wildcards(self, context: Path, image: Path) -> None:
        run(context, image, "*.c", dest="/src/")
        assert files(image / "src") == ["hello.c", "other.c"]

    def test_a_wildcard_may_match_nothing(self, context: Path, image: Path) -> None:  # D24
        run(context, image, "*.none", dest="/src/")
        assert not (image / "src").exists()

    def test_a_missing_source_is_named(self, context: Path, image: Path) -> None:
        with pytest.raises(MissingSource, match='"/nofile": not found'):
            run(context, image, "nofile", dest="/")

    def test_sources_cannot_leave_the_context(self, context: Path, image: Path) -> None:  # threat 19, D24
        (context.parent / "secret").write_text("secret")
        (context / "escape").symlink_to("../secret")
        (context / "secret").write_text("mine")
        run(context, image, "../secret", dest="/clamped")
        assert (image / "clamped").read_text() == "mine"
        run(context, image, "escape", dest="/followed")  # the link resolves inside the context too
        assert (image / "followed").read_text() == "mine"

    def test_a_link_out_of_the_context_finds_nothing(self, context: Path, image: Path) -> None:  # threat 19
        (context / "passwd").symlink_to("/etc/passwd")
        with pytest.raises(MissingSource):
            run(context, image, "passwd", dest="/")

    def test_links_in_the_image_lead_inside_the_image(self, context: Path, image: Path) -> None:  # threat 20
        run(context, image, "hello.c", dest="/var/run/hello.c")
        assert (image / "run/hello.c").read_text() == "int main;"

    def test_an_existing_file_is_replaced_and_a_link_is_not_written_through(self, context: Path, image: Path) -> None:
        canary = image / "etc/passwd"
        before = canary.read_text()
        (image / "usr/hello.c").symlink_to("/etc/passwd")
        run(context, image, "hello.c", dest="/usr/")
        assert canary.read_text() == before
        assert not (image / "usr/hello.c").is_symlink()

    def test_a_file_does_not_replace_a_directory(self, context: Path, image: Path) -> None:
        (image / "usr/hello.c").mkdir()
        with pytest.raises(CopyConflict, match="cannot overwrite directory"):
            run(context, image, "hello.c", dest="/usr/")

    def test_parents_keeps_directories(self, context: Path, image: Path) -> None:  # D28
        run(context, image, "html/deep/page.html", dest="/out/", parents=True)
        run(context, image, "html/./deep/page.html", dest="/pivot/", parents=True)
        assert files(image / "out") == ["html/deep/page.html"]
        assert files(image / "pivot") == ["deep/page.html"]

    def test_exclude(self, context: Path, image: Path) -> None:  # D28
        run(context, image, "html", dest="/out/", exclude=("deep",))
        assert files(image / "out") == ["index.html"]


class TestOwnersModesAndTimes:
    @pytest.mark.root
    def test_context_files_belong_to_root_and_keep_their_bits(self, context: Path, image: Path) -> None:
        run(context, image, "run.sh", dest="/bin/")
        facts = (image / "bin/run.sh").stat()
        assert (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (0, 0, 0o755)

    @pytest.mark.root
    def test_chown_by_name_uses_the_image(self, context: Path, image: Path) -> None:  # D26
        run(context, image, "hello.c", dest="/a", owner="web")
        run(context, image, "hello.c", dest="/b", owner="web:staff")
        run(context, image, "hello.c", dest="/c", owner="1234")
        run(context, image, "hello.c", dest="/d", owner="33")
        owners = [((image / name).stat().st_uid, (image / name).stat().st_gid) for name in "abcd"]
        assert owners == [(33, 34), (33, 50), (1234, 1234), (33, 33)], "a number alone is both ids"

    @pytest.mark.root
    @pytest.mark.parametrize(("source", "dest"), [("hello.c", "/new/a/b"), ("html", "/new/a"), ("hello.c", "/new/a/")])
    def test_chown_owns_the_directories_it_makes(
        self, context: Path, image: Path, source: str, dest: str
    ) -> None:  # D26
        run(context, image, source, dest=dest, owner="web")
        made = [(image / name).stat() for name in ("new", "new/a")]
        assert [(facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) for facts in made] == [(33, 34, 0o755)] * 2

    def test_chmod(self, context: Path, image: Path) -> None:  # D26
        run(context, image, "html", dest="/h", mode="u=rwX,go=rX")
        assert stat.S_IMODE((image / "h/index.html").stat().st_mode) == 0o644
        assert stat.S_IMODE((image / "h/deep").stat().st_mode) == 0o755

    def test_times_do_not_depend_on_the_build(self, context: Path, image: Path) -> None:  # A17
        before = (image / "usr").stat().st_mtime_ns
        run(context, image, "html", dest="/usr/new/html")
        for path in ("usr/new", "usr/new/html", "usr/new/html/index.html", "usr/new/html/deep"):
            assert (image / path).stat().st_mtime_ns == MOMENT, path
        assert (image / "usr").stat().st_mtime_ns == before

    def test_a_stage_keeps_owner_times_and_hard_links(self, context: Path, image: Path) -> None:  # D25
        os.link(context / "hello.c", context / "html" / "same.c")
        os.utime(context / "html/index.html", ns=(5, 5))
        os.link(context / "html/index.html", context / "html/again.html")
        run(context, image, "html", dest="/h", keep_owner=True)
        assert (image / "h/index.html").stat().st_mtime_ns == 5
        assert (image / "h/index.html").stat().st_ino == (image / "h/again.html").stat().st_ino


class TestIgnore:
    def test_ignored_files_are_not_there(self, context: Path, image: Path) -> None:  # S60
        run(context, image, ".", dest="/app/", ignore=Patterns("html"))
        assert "html/index.html" not in files(image / "app")
        assert not (image / "app/html").exists()

    def test_naming_an_ignored_file_says_why(self, context: Path, image: Path) -> None:
        with pytest.raises(MissingSource) as caught:
            run(context, image, "html", dest="/", ignore=Patterns("html"))
        assert caught.value.hint == "html is excluded by .dockerignore"

    def test_an_exception_brings_a_file_back_with_its_directories(self, context: Path, image: Path) -> None:  # D41
        run(context, image, ".", dest="/app/", ignore=Patterns("html", kept=("html/deep/page.html",)))
        assert "html/deep/page.html" in files(image / "app")
        assert "html/index.html" not in files(image / "app")


class TestKeys:
    def test_times_and_copies_do_not_matter(self, context: Path) -> None:  # D44, threat 30
        before = key(context, "html")
        os.utime(context / "html/index.html", ns=(1, 1))
        assert key(context, "html") == before

    @pytest.mark.parametrize(
        "change",
        [
            lambda root: (root / "html/index.html").write_text("HELLO"),
            lambda root: (root / "html/index.html").chmod(0o600),
            lambda root: (root / "html/index.html").rename(root / "html/renamed.html"),
            lambda root: (root / "html/deep/page.html").unlink(),
            lambda root: (root / "html/new").symlink_to("x"),
            lambda root: (root / "html/deep").chmod(0o700),
        ],
    )
    def test_content_names_and_modes_do(self, context: Path, change: object) -> None:  # threat 30
        before = key(context, "html")
        change(context)  # type: ignore[operator]
        assert key(context, "html") != before

    def test_what_is_not_selected_does_not(self, context: Path) -> None:
        before = key(context, "html")
        (context / "hello.c").write_text("changed")
        assert key(context, "html") == before
        (context / "html/ignored").write_text("x")
        assert key(context, "html", ignore=Patterns("html/ignored")) == before

    @pytest.mark.root
    def test_owners_matter_in_a_stage_only(self, context: Path) -> None:
        plain, owned = key(context, "html"), key(context, "html", keep_owner=True)
        os.chown(context / "html/index.html", 1000, 1000)
        assert key(context, "html") == plain
        assert key(context, "html", keep_owner=True) != owned


class TestArchives:
    @pytest.fixture
    def archive(self, context: Path) -> Path:
        path = context / "data.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            member = tarfile.TarInfo("dir/file")
            member.size, member.mtime, member.uid = 4, 77, 7
            tar.addfile(member, io.BytesIO(b"data"))
        return path

    @pytest.mark.root
    def test_add_extracts(self, context: Path, image: Path, archive: Path) -> None:  # S36, D30
        run(context, image, archive.name, dest="/opt/", unpack=True)
        facts = (image / "opt/dir/file").stat()
        assert (image / "opt/dir/file").read_text() == "data"
        assert (facts.st_uid, facts.st_mtime) == (7, 77)

    @pytest.mark.root
    def test_add_with_chown_owns_what_it_extracts(self, context: Path, image: Path, archive: Path) -> None:  # D30
        run(context, image, archive.name, dest="/opt/", unpack=True, owner="web:staff")
        for name in ("opt", "opt/dir/file"):
            facts = (image / name).stat()
            assert (facts.st_uid, facts.st_gid) == (33, 50), name

    def test_copy_does_not(self, context: Path, image: Path, archive: Path) -> None:
        run(context, image, archive.name, dest="/opt/")
        assert files(image / "opt") == ["data.tar.gz"]

    @pytest.mark.parametrize("content", [b"", b"not an archive at all", b"\x1f\x8b broken"])
    def test_a_bogus_archive_is_just_copied(self, context: Path, image: Path, content: bytes) -> None:  # D30
        (context / "bogus.tar.gz").write_bytes(content)
        run(context, image, "bogus.tar.gz", dest="/opt/", unpack=True)
        assert (image / "opt/bogus.tar.gz").read_bytes() == content


@pytest.mark.parametrize(
    ("text", "bits", "directory", "expected"),
    [
        ("755", 0o600, False, 0o755),
        ("0644", 0o755, False, 0o644),
        ("4755", 0, False, 0o4755),
        ("+x", 0o644, False, 0o755),
        ("u=rwX,go=rX", 0o600, True, 0o755),
        ("u=rwX,go=rX", 0o600, False, 0o644),
        ("a-w", 0o666, False, 0o444),
        ("g=u", 0o640, False, 0o660),
        ("u+s", 0o755, False, 0o4755),
        ("+t", 0o777, True, 0o1777),
        ("o=", 0o777, False, 0o770),
    ],
)
def test_modes(text: str, bits: int, directory: bool, expected: int) -> None:  # D26
    assert oct(parse_mode(text)(bits, directory)) == oct(expected)


@pytest.mark.parametrize("text", ["", "8", "77777", "u=q", "rwx", "u", "0o755"])
def test_bad_modes(text: str) -> None:
    with pytest.raises(InvalidMode):
        parse_mode(text)


def test_linked_files_do_not_use_up_descriptors(context: Path, image: Path) -> None:
    # Package managers link every file of a project to their store.
    (context / "store").mkdir()
    for number in range(300):
        (context / "store" / f"{number}").write_text(str(number))
        os.link(context / "store" / f"{number}", context / "html" / f"{number}")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, before[1]))
    try:
        run(context, image, ".", dest="/app/")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (image / "app/html/7").stat().st_ino == (image / "app/store/7").stat().st_ino


def test_a_file_that_two_copies_select_is_hashed_once(tmp_path: Path):
    where = tmp_path / "twice"
    where.mkdir()
    (where / "f").write_text("x" * 5_000)
    later = utc_now() + timedelta(seconds=10)  # the file has rested
    db = Database(str(tmp_path / "index"))
    digests = StatCache(db, str(where), lambda: later)
    read: list[int] = []
    with SourceTree(str(where)) as tree:
        content_digest(tree, Copy(("f",), "/a"), digests, read.append)
        content_digest(tree, Copy((".",), "/b"), digests, read.append)
    db.close()
    assert 5_000 <= sum(read) < 10_000
