"""Several stages: copies between them, targets, what is skipped, and what runs at the same time (D25, D46)."""

from __future__ import annotations

import threading

import pytest

from lamina.build.builder import BuildFailed
from lamina.build.progress import BuildEvent, VertexLog
from lamina.testing.builds import Events, Workshop

pytestmark = [pytest.mark.root, pytest.mark.runtime]


def test_copies_from_stages_by_name_by_number_and_from_images(workshop: Workshop):
    workshop.build("FROM scratch\nCOPY f /from-image\n", {"f": "image"}, tags=["other:1"])
    made = workshop.build(
        """\
FROM base AS One
RUN mkdir /d && echo 1 > /d/f && chown 33:34 /d/f && chmod 600 /d/f && ln -s f /d/l
FROM base
RUN echo 2 > /two
FROM scratch
COPY --from=one /d /d
COPY --from=1 two /two
COPY --from=other:1 /from-image /
COPY --from=ONE --chown=5:6 /d/f /owned
"""
    )
    listing = made.listing()
    assert listing["d/f"] == ("0o100600", 33, 34, b"1\n")  # owner of the stage is kept (D25)
    assert listing["d/l"][3] == "f"
    assert listing["two"][3] == b"2\n"
    assert listing["from-image"][3] == b"image"
    assert listing["owned"][1:3] == (5, 6)
    assert len(made.config.diff_ids) == 4


def test_a_stage_on_a_stage_inherits_tree_configuration_and_arguments(workshop: Workshop):
    made = workshop.build(
        "FROM base AS one\nARG v=kept\nENV E=1\nRUN echo one > /one\nLABEL stage=one\nFROM one\nRUN echo $v > /two\n"
    )
    assert (made.read("/one"), made.read("/two")) == ("one\n", "kept\n")
    assert "E=1" in made.config.config.env
    assert made.config.config.labels == {"stage": "one"}
    assert len(made.config.diff_ids) == 3
    assert "RUN /bin/sh -c echo one > /one # buildkit" in [
        entry.created_by.replace("|1 v=kept ", "") for entry in made.config.history
    ]


def test_only_what_the_target_needs_is_built(workshop: Workshop):
    # D46: a stage that is not needed does no harm, whatever it asks for
    text = "FROM base AS good\nRUN echo good > /g\nFROM localhost:1/none/such AS bad\nRUN false\nFROM good AS last\nRUN false\n"
    made = workshop.build(text, target="GOOD")
    assert made.events.ran == ["RUN echo good > /g"]


def test_an_unknown_target_gets_a_suggestion(workshop: Workshop):
    with pytest.raises(BuildFailed, match=r'target stage "biuld" could not be found') as caught:
        workshop.build("FROM base AS build\nRUN true\n", target="biuld")
    assert "build" in str(caught.value.message) + str(caught.value.hint)


def test_the_same_prefix_is_built_once(workshop: Workshop):
    made = workshop.build(
        "FROM base AS a\nRUN echo x > /x\nRUN echo a > /a\nFROM base AS b\nRUN echo x > /x\nRUN echo b > /b\n"
        "FROM scratch\nCOPY --from=a /a /x /\nCOPY --from=b /b /\n"
    )
    assert made.events.ran.count("RUN echo x > /x") == 1


def test_independent_stages_run_at_the_same_time(workshop: Workshop):
    # Each stage waits for a word that the other one's first output triggers: one after the other would hang.
    context = workshop.context({})
    both = threading.Barrier(2, timeout=60)
    broken: list[str] = []

    def on(event: BuildEvent) -> None:
        # Runs on the step's own thread: it goes on only when the other step has begun to write, too.
        if isinstance(event, VertexLog) and b"begun" in event.data:
            try:
                both.wait()
            except threading.BrokenBarrierError:
                broken.append(events.name(event.id))

    events = Events(on=on)
    made = workshop.build(
        "FROM base AS a\nRUN echo begun; echo a > /a\nFROM base AS b\nRUN echo begun; echo b > /b\n"
        "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        context=context,
        events=events,
    )
    assert broken == []
    assert set(made.listing()) == {"a", "b"}


def test_a_failing_stage_stops_the_other_and_is_the_one_reported(workshop: Workshop):
    begun = threading.Event()

    def on(event: BuildEvent) -> None:
        if isinstance(event, VertexLog) and b"waiting" in event.data:
            begun.set()
        if isinstance(event, VertexLog) and b"failing" in event.data:
            assert begun.wait(60)

    with pytest.raises(BuildFailed, match="exit code: 7") as caught:
        workshop.build(
            "FROM base AS slow\nRUN echo waiting; sleep 1000\n"
            "FROM base AS bad\nRUN echo failing; exit 7\n"
            "FROM scratch\nCOPY --from=slow /x /\nCOPY --from=bad /x /\n",
            events=Events(on=on),
        )
    assert caught.value.step.endswith("RUN echo failing; exit 7")


def test_a_stage_cannot_lead_a_copy_out_of_its_root(workshop: Workshop):
    # threat 20
    (workshop.folder / "canary").write_text("secret")
    text = (
        f"FROM base AS evil\nRUN ln -s / /rootdir && ln -s ../../../../../../../..{workshop.folder} /host\n"
        "FROM base\nCOPY --from=evil /rootdir/etc/passwd /p\n"
    )
    made = workshop.build(text)
    assert "web:" in made.read("/p")  # the stage's own file, not this machine's
    with pytest.raises(BuildFailed, match="not found"):
        workshop.build(text + "COPY --from=evil /host/canary /c\n")


def test_a_destination_link_stays_inside_the_tree(workshop: Workshop):
    # threats 16, 19
    outside = workshop.folder / "outside"
    outside.mkdir()
    made = workshop.build(
        f"FROM base\nRUN mkdir -p /real && ln -s /real /link && ln -s {outside} /escape\n"
        "COPY f /link/\nCOPY f /escape/f\nWORKDIR /escape/w\n",
        {"f": "x"},
    )
    assert list(outside.iterdir()) == []
    listing = made.listing()
    assert listing["real/f"][3] == b"x"
    assert listing[f"{str(outside).lstrip('/')}/f"][3] == b"x"
