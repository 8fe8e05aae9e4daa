"""`COPY --link` and `ADD --link`: layers that know nothing of what they are put on (D27; Dockerfile reference, COPY --link)."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.build.builder import BuildFailed
from lamina.build.progress import VertexCached, VertexDone, VertexStarted
from lamina.store.packing import layer_diff_id
from lamina.testing.builds import FileSpec, Outcome, Workshop

pytestmark = [pytest.mark.root, pytest.mark.runtime]


def _top(made: Outcome) -> str:
    """The diffID of the topmost layer."""
    return str(made.config.diff_ids[-1])


def test_links_of_the_tree_below_are_not_followed(workshop: Workshop):
    below = "FROM base\nRUN mkdir /real && ln -s real /link && echo old > /file && mkdir -p /deep/er && ln -s / /up\n"
    files = {"f": "x"}
    plain = workshop.build(below + "COPY f /link/\n", files).listing()
    assert plain["link"][0] == "0o120777"
    assert "real/f" in plain
    linked = workshop.build(below + "COPY --link f /link/\nCOPY --link f /up/etc/f\n", files).listing()
    assert linked["link"][0] == "0o40755"
    assert linked["link/f"][3] == b"x"
    assert "real/f" not in linked
    assert linked["up/etc/f"][3] == b"x"
    assert "etc/f" not in linked
    assert linked["deep/er"][0] == "0o40755"  # what is not touched stays


def test_what_lies_in_the_way_is_replaced_and_directories_are_merged(workshop: Workshop):
    below = "FROM base\nRUN mkdir -p /d/kept /f && chmod 700 /d && echo 1 > /d/kept/one && echo old > /file && echo a > /f/a\n"
    files = {"x": "X", "tree/two": "2", "tree/kept/three": "3"}
    made = workshop.build(below + "COPY --link tree /d\nCOPY --link x /file/x\nCOPY --link x /f\n", files).listing()
    assert made["d/kept/one"][3] == b"1\n"
    assert made["d/kept/three"][3] == b"3"
    assert made["d/two"][3] == b"2"
    assert made["d"][0] == "0o40755"  # the new mode wins, as the reference says
    assert made["file/x"][3] == b"X"
    assert made["f"][3] == b"X"  # nothing says here that the base has a directory of this name


def test_another_base_keeps_the_layer_and_copies_nothing(workshop: Workshop):
    text = "FROM base\nRUN echo %s > /below\nCOPY --link --chown=7:8 tree /tree/\nADD --link f /\n"
    files = {"tree/a": "A", "tree/d/b": "B", "f": "F"}
    one = workshop.build(text % 1, files)
    inode = _inode(one, "tree/a")
    two = workshop.build(text % 2, files)
    assert two.config.diff_ids[-2:] == one.config.diff_ids[-2:]
    assert two.config.diff_ids[-3] != one.config.diff_ids[-3]
    assert two.read("/below") == "2\n"
    assert two.listing()["tree/d/b"] == ("0o100644", 7, 8, b"B")
    assert _inode(two, "tree/a") == inode  # the same file, not a second one


def _inode(made: Outcome, path: str) -> int:
    store = made.engine.store
    key = store.layers.snapshot_of(made.config.diff_ids[:-1])
    assert key is not None
    return os.lstat(f"{store.snapshots.changes(key).tree}/{path}").st_ino


def test_the_layer_is_that_of_a_copy_onto_nothing(workshop: Workshop):
    files: dict[str, FileSpec] = {"d/f": "x", "d/g": (0o755, "y")}
    linked = workshop.build("FROM base\nRUN mkdir -m 700 /app\nCOPY --link d /app/\n", files)
    alone = workshop.build("FROM scratch\nCOPY d /app/\n", files)
    assert _top(linked) == _top(alone)
    key = linked.engine.store.layers.snapshot_of(linked.config.diff_ids)
    assert key is not None
    # What a push would send has the digest that the image names.
    assert str(layer_diff_id(linked.engine.store.snapshots.changes(key))[0]) == _top(linked)


def test_steps_after_it_see_and_change_the_whole_tree(workshop: Workshop):
    text = (
        "FROM base\nRUN mkdir /d && echo b > /d/b\nCOPY --link a /d/\nRUN cat /d/a /d/b > /both && echo more >> /d/a\n"
    )
    made = workshop.build(text, {"a": "A\n"})
    assert made.read("/both") == "A\nb\n"
    assert made.read("/d/a") == "A\nmore\n"
    again = workshop.build(text.replace("echo b", "echo c"), {"a": "A\n"})
    assert again.read("/d/a") == "A\nmore\n"  # the shared file was not written to
    assert again.read("/both") == "A\nc\n"


def test_from_a_stage_the_owner_is_kept(workshop: Workshop):
    text = "FROM base AS made\nRUN mkdir /o && echo x > /o/f && chown -R 33:34 /o\n"
    made = workshop.build(text + "FROM base\nRUN mkdir /o\nCOPY --link --from=made /o /o\n").listing()
    assert made["o"][1:3] == (33, 34)
    assert made["o/f"] == ("0o100644", 33, 34, b"x\n")


def test_archives_are_unpacked_into_the_layer(workshop: Workshop):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("bin/tool")
        info.size, info.mode = 2, 0o755
        archive.addfile(info, io.BytesIO(b"hi"))
    made = workshop.build("FROM base\nADD --link a.tar /\nRUN ls /bin/busybox /bin/tool\n", {"a.tar": out.getvalue()})
    assert made.listing()["bin/tool"] == ("0o100755", 0, 0, b"hi")


def test_names_of_owners_cannot_be_looked_up(workshop: Workshop):
    # BuildKit: `invalid user index: -1`; the tree with /etc/passwd is what a linked copy does not see.
    for owner in ("web", "0:staff"):
        with pytest.raises(BuildFailed, match="invalid user index: -1") as caught:
            workshop.build(f"FROM base\nCOPY --link --chown={owner} f /\n", {"f": "x"})
        assert "Dockerfile:2" in caught.value.excerpt
        assert caught.value.hint is not None
        assert "--chown" in caught.value.hint
    # Known by number: root is 0 everywhere.
    assert workshop.build("FROM base\nCOPY --link --chown=5 f /\n", {"f": "x"}).listing()["f"][1:3] == (5, 5)


def test_with_a_mode_it_is_an_ordinary_copy(workshop: Workshop):
    # BuildKit's way (D27): what works there must not lose its links here
    made = workshop.build("FROM base\nRUN mkdir /r && ln -s r /l\nCOPY --link --chmod=700 f /l/\n", {"f": "x"})
    assert made.listing()["r/f"][0] == "0o100700"
    assert made.listing()["l"][0] == "0o120777"


def test_link_can_be_switched_off_and_scratch_needs_no_merge(workshop: Workshop):
    made = workshop.build("FROM base\nRUN mkdir /r && ln -s r /l\nCOPY --link=false f /l/\n", {"f": "x"})
    assert "r/f" in made.listing()
    assert set(workshop.build("FROM scratch\nCOPY --link f /d/\n", {"f": "x"}).listing()) == {"d", "d/f"}


def test_it_is_one_line_of_the_transcript(workshop: Workshop):
    text, files = "FROM base\nRUN echo %s\nCOPY --link f /\n", {"f": "x"}
    events = workshop.build(text % 1, files).events
    steps = [event for event in events.all if isinstance(event, VertexStarted) and "COPY" in event.name]
    assert len(steps) == 1
    assert [event.error for event in events.all if isinstance(event, VertexDone) and event.id == steps[0].id] == [""]
    assert workshop.build(text % 1, files).events.cached.count("COPY --link f /") == 1
    rebased = workshop.build(text % 2, files).events
    assert not [event for event in rebased.all if isinstance(event, VertexCached) and "COPY" in event.name]


def test_the_plain_driver_gives_the_same_tree(make_workshop: Callable[..., Workshop]):
    text = "FROM base\nRUN mkdir /r && ln -s r /l && echo old > /file\nCOPY --link f /l/\nCOPY --link f /file/f\n"
    trees = []
    for driver in ("overlay", "vfs"):
        made = make_workshop(driver, driver=driver).build(text, {"f": "x"})
        trees.append(made.listing())
    assert trees[0] == trees[1]


def test_a_context_that_is_linked_to_itself(workshop: Workshop, tmp_path: Path):
    # Hard links inside the source stay links inside the layer, and only there.
    context = workshop.context({"d/one": "x"})
    os.link(context / "d/one", context / "d/two")
    made = workshop.build("FROM base\nCOPY --link d /d\n", context=context)
    with made.tree() as root:
        assert (root / "d/one").stat().st_ino == (root / "d/two").stat().st_ino
