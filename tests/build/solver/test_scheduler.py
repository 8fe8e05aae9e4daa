"""The solver on toy vertices: it must not care what an operation is (design.md, decision 5; features D44, D46)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from lamina.build.graph.vertex import Vertex, walk
from lamina.build.solver.cachekey import list_part, make_key
from lamina.build.solver.protocols import Work
from lamina.build.solver.scheduler import Scheduler, VertexFailed
from lamina.errors import Cancelled, Invalid
from lamina.spec.digest import Digest


@dataclass
class Toy:
    """An operation that joins its inputs' texts with its own; `by_content` makes it look at results, not keys."""

    text: str
    by_content: tuple[int, ...] = ()
    sees: Callable[[str], str] = lambda text: text
    action: Callable[[Work], None] = lambda _work: None
    cacheable: bool = True
    has_definition: bool = True

    @property
    def content_inputs(self) -> tuple[int, ...]:
        return self.by_content

    def definition_key(self, inputs: Sequence[Digest]) -> Digest | None:
        return make_key(self.text, *inputs) if self.has_definition else None

    def content_key(self, inputs: Sequence[Digest], contents: Sequence[str]) -> Digest:
        others = [key for position, key in enumerate(inputs) if position not in self.by_content]
        return make_key("content", self.text, *others, *(self.sees(content) for content in contents))

    def execute(self, inputs: Sequence[str], work: Work) -> str:
        self.action(work)
        work.log(1, self.text.encode())
        return "+".join([*inputs, self.text])


@dataclass
class MemoryCache:
    """The cache contract in a dictionary."""

    records: dict[Digest, tuple[Digest, str]] = field(default_factory=dict)

    def get(self, key: Digest) -> tuple[Digest, str] | None:
        return self.records.get(key)

    def put(self, key: Digest, aliases: Sequence[Digest], result: str) -> None:
        for one in (key, *aliases):
            self.records[one] = (key, result)


@dataclass
class Transcript:
    """Remembers what it is told, by vertex name."""

    ran: list[str] = field(default_factory=list)
    hits: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    logs: list[tuple[str, bytes]] = field(default_factory=list)

    def started(self, vertex: object) -> None:
        self.ran.append(vertex.name)  # type: ignore[attr-defined]

    def cached(self, vertex: object) -> None:
        self.hits.append(vertex.name)  # type: ignore[attr-defined]

    def log(self, vertex: object, stream: int, data: bytes) -> None:
        self.logs.append((vertex.name, data))  # type: ignore[attr-defined]

    def progress(self, vertex: object, item: str, current: int, done: bool) -> None:
        self.logs.append((vertex.name, f"{item} {current} {done}".encode()))  # type: ignore[attr-defined]

    def finished(self, vertex: object, error: BaseException | None) -> None:
        if error is not None:
            self.failed.append(vertex.name)  # type: ignore[attr-defined]


def toy(name: str, *inputs: Vertex, ignore_cache: bool = False, **options: object) -> Vertex:
    op = Toy(str(options.pop("text", name)), **options)  # type: ignore[arg-type]
    return Vertex(name, op, inputs, definition=op.text.encode(), ignore_cache=ignore_cache)


def solve(*targets: Vertex, cache: MemoryCache | None = None, **options: object) -> tuple[list[str], Transcript]:
    transcript = Transcript()
    scheduler: Scheduler[str] = Scheduler(
        lambda vertex: vertex.op,  # type: ignore[arg-type,return-value]
        cache or MemoryCache(),
        transcript,
        **options,  # type: ignore[arg-type]
    )
    return [solved.result for solved in scheduler.solve(targets)], transcript


def test_a_chain_runs_in_order_and_every_vertex_once() -> None:
    base = toy("base")
    left, right = toy("left", base), toy("right", base)
    results, transcript = solve(toy("end", left, right))
    assert results == ["base+left+base+right+end"]
    assert sorted(transcript.ran) == ["base", "end", "left", "right"]
    assert transcript.ran[0] == "base"
    assert transcript.ran[-1] == "end"
    assert ("left", b"left") in transcript.logs


def test_the_same_work_asked_for_twice_is_one_vertex() -> None:
    assert toy("one", toy("base")).digest == toy("other name", toy("base"), text="one").digest
    _, transcript = solve(toy("a", text="same"), toy("b", text="same"))
    assert len(transcript.ran) == 1


def test_a_second_build_runs_nothing() -> None:  # S29
    cache = MemoryCache()
    graph = toy("two", toy("one"))
    solve(graph, cache=cache)
    results, transcript = solve(graph, cache=cache)
    assert results == ["one+two"]
    assert transcript.ran == []
    assert transcript.hits == ["one", "two"]


def test_no_cache_runs_everything_and_serves_later_builds() -> None:
    cache = MemoryCache()
    graph = toy("two", toy("one"))
    solve(graph, cache=cache)
    _, again = solve(graph, cache=cache, use_cache=False)
    assert again.ran == ["one", "two"]
    _, third = solve(graph, cache=cache)
    assert third.ran == []


def test_one_vertex_can_ignore_the_cache() -> None:
    cache = MemoryCache()
    solve(toy("two", toy("one")), cache=cache)
    _, transcript = solve(toy("two", toy("one", ignore_cache=True)), cache=cache)
    assert transcript.hits == ["two"]
    assert transcript.ran == []  # nobody needs the result of "one"


def test_what_a_copy_does_not_select_cannot_miss() -> None:  # D44: COPY --from is keyed by content
    cache = MemoryCache()
    first = toy("source", text="payload v1")
    solve(toy("run", toy("copy", first, by_content=(0,), sees=lambda text: text.split()[0])), cache=cache)
    second = toy("source", text="payload v2")
    _, transcript = solve(toy("run", toy("copy", second, by_content=(0,), sees=lambda t: t.split()[0])), cache=cache)
    assert transcript.ran == ["source"]
    assert transcript.hits == ["copy", "run"]
    _, third = solve(toy("run", toy("copy", second, by_content=(0,), sees=lambda t: t.split()[0])), cache=cache)
    assert third.ran == []  # the definition now leads to the recorded content


def test_a_source_without_definition_is_keyed_by_content_alone() -> None:
    cache = MemoryCache()
    context = toy("context", cacheable=False)
    copy = toy("copy", context, by_content=(0,), has_definition=False)
    solve(copy, cache=cache)
    _, transcript = solve(copy, cache=cache)
    assert transcript.ran == ["context"]
    assert transcript.hits == ["copy"]


def test_independent_vertices_run_at_the_same_time() -> None:
    meeting = threading.Barrier(4, timeout=30)
    targets = [toy(f"stage {n}", action=lambda _work: meeting.wait() and None) for n in range(4)]
    solve(*targets)  # would break the barrier if they ran one after the other
    assert not meeting.broken


def test_stages_copied_one_after_the_other_run_at_the_same_time() -> None:  # COPY --from=a, COPY --from=b, ...
    meeting = threading.Barrier(3, timeout=30)
    tree = toy("base")
    for name in "abc":
        stage = toy(f"stage {name}", action=lambda _work: meeting.wait() and None)
        tree = toy(f"copy {name}", tree, stage, by_content=(1,))
    solve(tree)
    assert not meeting.broken


def test_parallel_bounds_how_many_run_at_once() -> None:
    running, peak, lock = 0, 0, threading.Lock()

    def work(_work: Work) -> None:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        with lock:
            running -= 1

    solve(*[toy(f"{n}", action=work) for n in range(20)], parallel=2)
    assert 1 <= peak <= 2


def test_a_failure_names_its_vertex_and_stops_the_others() -> None:
    started = threading.Event()

    def endless(work: Work) -> None:
        started.set()
        assert work.cancelled.wait(30)
        raise Cancelled("stopped")

    def fail(_work: Work) -> None:
        assert started.wait(30)
        raise Invalid("boom")

    with pytest.raises(VertexFailed, match="boom") as caught:
        solve(toy("end", toy("endless", action=endless), toy("bad", action=fail)))
    assert caught.value.vertex.name == "bad"
    assert isinstance(caught.value.cause, Invalid)


def test_a_failed_vertex_is_not_recorded() -> None:
    cache = MemoryCache()

    def fail(_work: Work) -> None:
        raise Invalid("boom")

    with pytest.raises(VertexFailed):
        solve(toy("bad", action=fail), cache=cache)
    assert cache.records == {}


def test_walk_gives_inputs_before_users_once() -> None:
    base = toy("base")
    assert [vertex.name for vertex in walk([toy("end", toy("left", base), toy("right", base))])] == [
        "base",
        "left",
        "right",
        "end",
    ]


def test_keys_frame_their_parts() -> None:
    assert make_key("ab", "c") != make_key("a", "bc")
    assert list_part(["a", "b"]) != list_part(["ab"])
    assert make_key(list_part([]), "x") != make_key("x", list_part([]))
