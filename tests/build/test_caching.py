"""What runs again and what does not, and that equal inputs give equal images (D44, D45, S29, B19, Y05, threats 29, 30)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.testing.builds import FileSpec, Outcome, Workshop, fill

pytestmark = [pytest.mark.root, pytest.mark.runtime]

STEPS = """\
FROM base
RUN echo one > /one
COPY f /f
RUN cat /f > /two
COPY g /g
RUN cat /g > /three
"""


def test_a_second_build_runs_nothing_and_is_the_same_image(workshop: Workshop):
    first = workshop.build(STEPS, {"f": "F", "g": "G"}, tags=["x"])
    again = workshop.build(STEPS, {"f": "F", "g": "G"}, tags=["x"])
    assert again.id == first.id
    assert again.events.ran == []
    assert len(again.events.cached) == 5


def test_without_cache_everything_runs_and_the_next_build_profits(workshop: Workshop):
    workshop.build(STEPS, {"f": "F", "g": "G"})
    again = workshop.build(STEPS, {"f": "F", "g": "G"}, no_cache=True)
    assert (len(again.events.ran), again.events.cached) == (5, [])
    third = workshop.build(STEPS, {"f": "F", "g": "G"})
    assert third.id == again.id
    assert third.events.ran == []


def test_a_changed_file_runs_exactly_the_later_steps(workshop: Workshop):
    workshop.build(STEPS, {"f": "F", "g": "G"})
    changed = workshop.build(STEPS, {"f": "F", "g": "changed"})
    assert changed.events.ran == ["COPY g /g", "RUN cat /g > /three"]
    assert changed.read("/three") == "changed"
    assert len(changed.events.cached) == 3


def test_a_changed_command_ends_the_hits(workshop: Workshop):
    workshop.build(STEPS, {"f": "F", "g": "G"})
    changed = workshop.build(STEPS.replace("cat /f >", "cat  /f >"), {"f": "F", "g": "G"})
    assert changed.events.ran[0] == "RUN cat  /f > /two"
    assert len(changed.events.ran) == 3


def _mode(path: Path) -> None:
    path.chmod(0o700)


def _content(path: Path) -> None:
    path.write_text("other")


def _kind(path: Path) -> None:
    path.unlink()
    path.symlink_to("x")


def _name(path: Path) -> None:
    path.rename(path.with_name("renamed"))


def _extra(path: Path) -> None:
    path.with_name("extra").touch()


@pytest.mark.parametrize("change", [_mode, _content, _kind, _name, _extra])
def test_every_attribute_that_is_copied_is_in_the_key(workshop: Workshop, change: Callable[[Path], None]):
    # threat 30: no false hits
    text = "FROM base\nCOPY d /d\n"
    workshop.build(text, {"d/f": "F"})
    context = workshop.context({"d/f": "F"})
    change(context / "d/f")
    assert workshop.build(text, context=context).events.ran == ["COPY d /d"]


def test_a_changed_link_target_is_in_the_key(workshop: Workshop):
    text = "FROM base\nCOPY d /d\n"
    workshop.build(text, {"d/l": ("->", "one")})
    assert workshop.build(text, {"d/l": ("->", "two")}).events.ran == ["COPY d /d"]


def test_times_and_places_are_not_in_the_key(workshop: Workshop):
    # threat 30: no false misses; A17
    text = "FROM base\nCOPY d /d\n"
    context = workshop.context({"d/f": "F", "d/sub/g": "G"})
    first = workshop.build(text, context=context)
    os.utime(context / "d/f", (1, 1))
    clone = Path(shutil.copytree(context, workshop.folder / "clone", symlinks=True))
    os.utime(clone / "d/sub/g", (5, 5))
    assert workshop.build(text, context=context).events.ran == []
    cloned = workshop.build(text, context=clone)
    assert cloned.events.ran == []
    assert cloned.id == first.id


def test_a_change_is_seen_though_size_and_time_are_kept(workshop: Workshop):
    # threat 30: the digests that are remembered by inode, size and times
    context = workshop.context({"f": "aaaa"})
    os.utime(context / "f", (1000, 1000))
    workshop.build("FROM base\nCOPY f /f\n", context=context)
    (context / "f").write_text("bbbb")
    os.utime(context / "f", (1000, 1000))
    assert workshop.build(context=context).read("/f") == "bbbb"


def test_clones_with_other_times_give_the_same_layers_on_two_stores(make_workshop: Callable[..., Workshop]):
    # A17: the layers of COPY depend on what is copied, not on when or where
    files: dict[str, FileSpec] = {"d/f": "F", "d/run": (0o755, "#!"), "d/l": ("->", "f")}
    made = []
    for name, moment in (("one", 1), ("two", 10**9)):
        workshop = make_workshop(name)
        context = fill(workshop.folder / f"clone-{name}", files)
        for path in (context / "d/f", context / "d/run", context / "d"):
            os.utime(path, (moment, moment))
        made.append(workshop.build("FROM base\nCOPY d /deep/er/\nWORKDIR /w\nADD d/f /x/\n", context=context))
    assert made[0].config.diff_ids == made[1].config.diff_ids


def test_a_source_date_makes_images_identical_on_fresh_stores(make_workshop: Callable[..., Workshop]):
    # B19, Y05: same inputs and SOURCE_DATE_EPOCH, same image id
    made = [
        make_workshop(name, env={"SOURCE_DATE_EPOCH": "1700000000"}).build(
            'FROM base\nENV A=1\nCOPY f /f\nWORKDIR /w\nCMD ["x"]\n', {"f": "F"}
        )
        for name in ("one", "two")
    ]
    assert made[0].id == made[1].id
    assert made[0].config.created == "2023-11-14T22:13:20Z"
    assert {entry.created for entry in made[0].config.history[1:]} == {"2023-11-14T22:13:20Z"}


def test_a_source_date_by_argument_wins_and_is_checked(workshop: Workshop):
    from lamina.errors import Invalid

    made = workshop.build("FROM scratch\nCOPY f /\n", {"f": "x"}, build_args={"SOURCE_DATE_EPOCH": "0"})
    assert made.config.created == "1970-01-01T00:00:00Z"
    with made.tree() as root:
        assert (root / "f").stat().st_mtime == 0
    with pytest.raises(Invalid, match="invalid SOURCE_DATE_EPOCH"):
        workshop.build("FROM scratch\nCOPY f /\n", {"f": "x"}, build_args={"SOURCE_DATE_EPOCH": "tomorrow"})


def test_arguments_miss_at_their_first_use_only(workshop: Workshop):
    # D45
    text = "FROM base\nRUN true\nARG v=1\nRUN echo later\nENV v=const\n"
    workshop.build(text)
    changed = workshop.build(text, build_args={"v": "2"})
    assert changed.events.cached == ["RUN true"]
    assert changed.events.ran == ["RUN echo later"]
    for hidden in ("ENV v=const\nARG v=1", "ARG v=1\nENV v=const"):
        workshop.build(f"FROM base\n{hidden}\nRUN echo $v\n")
        assert workshop.build(f"FROM base\n{hidden}\nRUN echo $v\n", build_args={"v": "2"}).events.ran == []


@pytest.mark.parametrize(
    "line",
    [
        "ENV A=1", "USER web", "WORKDIR /w", 'SHELL ["/bin/sh", "-ec"]', "ARG n=1",
    ],
)  # fmt: skip
def test_what_a_command_can_see_is_in_its_key(workshop: Workshop, line: str):
    # threat 29
    workshop.build("FROM base\nRUN echo x > /tmp/x\n")
    changed = workshop.build(f"FROM base\n{line}\nRUN echo x > /tmp/x\n")
    assert "RUN echo x > /tmp/x" in changed.events.ran


def test_an_image_of_the_same_history_is_no_cache(workshop: Workshop):
    # threat 29: whoever plants an image gets no hit by it
    honest = workshop.build("FROM base\nRUN echo honest > /f\n")
    planted = honest.config.history[-1].created_by
    workshop.import_base("evil", changes=(f'LABEL planted="{planted}"',))
    fresh = workshop.build("FROM evil\nRUN echo honest > /f\n", no_cache=False)
    assert fresh.config.diff_ids[0] == honest.config.diff_ids[0]  # the same base layer may hit: same tree, same command
    other = workshop.build("FROM base\nLABEL x=y\nRUN echo other > /f\n")
    assert other.read("/f") == "other\n"


def test_a_base_that_was_removed_and_came_back(workshop: Workshop):
    first = workshop.build(STEPS, {"f": "F", "g": "G"}, tags=["x"])
    layer = first.config.diff_ids[0]
    workshop.engine.images.remove("x")
    workshop.engine.images.remove("base")
    workshop.engine.store.collector.collect()
    workshop.import_base()
    again = workshop.build(STEPS, {"f": "F", "g": "G"}, tags=["x"])
    assert again.config.diff_ids[0] == layer
    assert again.read("/three") == "G"


def test_removed_cache_is_built_again(workshop: Workshop):
    workshop.build(STEPS, {"f": "F", "g": "G"})
    workshop.engine.system.cache.prune(all=True)
    again = workshop.build(STEPS, {"f": "F", "g": "G"})
    assert again.read("/three") == "G"
    assert workshop.engine.system.fsck().clean


def _layers(made: Outcome) -> int:
    return len(made.config.diff_ids)


def test_squash_makes_one_layer_and_keeps_history_and_base(workshop: Workshop):
    # S39
    text = "FROM base\nRUN echo big > /tmp/big\nRUN rm /tmp/big; echo small > /small\nRUN rm -r /var; mkdir /var\nLABEL a=b\n"
    plain = workshop.build(text)
    squashed = workshop.build(text, squash=True)
    assert (_layers(plain), _layers(squashed)) == (4, 2)
    assert squashed.config.diff_ids[0] == plain.config.diff_ids[0]
    assert squashed.listing() == plain.listing()
    told = [entry.created_by for entry in squashed.config.history]
    assert told[: len(plain.config.history)] == [entry.created_by for entry in plain.config.history]
    assert sum(not entry.empty_layer for entry in squashed.config.history) == 2
    assert squashed.config.config == plain.config.config
    assert workshop.build(text, squash=True).id == squashed.id
