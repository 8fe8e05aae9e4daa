"""Solve a graph: every vertex at most once, independent ones in parallel, nothing that a cache hit makes needless.

Two questions are asked of a vertex, each answered once and shared by all who ask: what is its *key* (or, with luck, its
cached answer), and what is its *result*. A result is made only for the targets, for inputs of something that really
runs, and for inputs whose content decides a key; a fully cached build therefore runs nothing at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from lamina.build.graph.vertex import Vertex
from lamina.build.solver.future import Future, answer_into
from lamina.build.solver.protocols import Cache, Observer, Op, Solved, Work
from lamina.errors import Cancelled, Internal
from lamina.spec.digest import Digest

R = TypeVar("R")
T = TypeVar("T")

Resolver = Callable[[Vertex], Op[R]]


class VertexFailed(Exception):
    """Ties a failure to the vertex it happened in."""

    def __init__(self, vertex: Vertex, cause: BaseException) -> None:
        super().__init__(f"{vertex.name}: {cause}")
        self.vertex, self.cause = vertex, cause


class Scheduler(Generic[R]):
    """Solves graphs with one resolver, one cache and one observer.

    Args:
        resolve: gives the operation of a vertex.
        cache: where results are looked up and recorded.
        observer: is told what happens.
        parallel: how many operations may execute at once.
        use_cache: False runs everything (`--no-cache`), though results are still recorded.
        cancelled: stops everything when set.
        made: is given every result that was really made, as soon as it is there.
    """

    def __init__(
        self,
        resolve: Resolver[R],
        cache: Cache[R],
        observer: Observer,
        *,
        parallel: int = 8,
        use_cache: bool = True,
        cancelled: threading.Event | None = None,
        made: Callable[[Vertex, R], None] = lambda _vertex, _result: None,
    ) -> None:
        self._resolve, self._cache, self._observer = resolve, cache, observer
        self._slots = threading.BoundedSemaphore(parallel)
        self._use_cache = use_cache
        self._cancelled = cancelled or threading.Event()
        self._made = made
        self._lock = threading.Lock()
        self._states: dict[Digest, _State[R]] = {}

    def solve(self, targets: Sequence[Vertex]) -> list[Solved[R]]:
        """Answer the targets.

        Raises:
            VertexFailed: the first vertex that failed; everything else was told to stop and has stopped.
        """
        futures = [self._result(self._state(vertex)) for vertex in targets]
        try:
            return [future.result() for future in futures]
        except BaseException as error:
            self._cancelled.set()
            self._drain()
            raise self._first_cause(error) from None

    def _drain(self) -> None:
        """Wait for every vertex that began: nothing runs on behind a caller's back."""
        while pending := self._pending():
            for future in pending:
                future.exception()

    def _pending(self) -> list[Future[Solved[R]] | Future[_Key[R]]]:
        with self._lock:
            states = list(self._states.values())
        return [
            future
            for state in states
            for future in (state.key, state.result)
            if future is not None and not future.done()
        ]

    def _first_cause(self, error: BaseException) -> BaseException:
        """Prefer the failure over the cancellations that it caused."""
        if not (isinstance(error, VertexFailed) and isinstance(error.cause, Cancelled)):
            return error
        with self._lock:
            states = list(self._states.values())
        for state in states:
            failed = state.result.exception() if state.result is not None else None
            if isinstance(failed, VertexFailed) and not isinstance(failed.cause, Cancelled):
                return failed
        return error

    def _state(self, vertex: Vertex) -> _State[R]:
        with self._lock:
            state = self._states.get(vertex.digest)
            if state is None:
                state = self._states[vertex.digest] = _State(vertex, self._resolve(vertex))
            return state

    def _key(self, state: _State[R]) -> Future[_Key[R]]:
        with self._lock:
            if state.key is not None:
                return state.key
            state.key = Future()
        return _spawn(state.key, lambda: self._find_key(state), state.vertex)

    def _result(self, state: _State[R]) -> Future[Solved[R]]:
        with self._lock:
            if state.result is not None:
                return state.result
            state.result = Future()
        return _spawn(state.result, lambda: self._make_result(state), state.vertex)

    def _find_key(self, state: _State[R]) -> _Key[R]:
        vertex, op = state.vertex, state.op
        inputs = [self._state(one) for one in vertex.inputs]
        asked = [self._key(one) for one in inputs]
        for position in op.content_inputs:
            self._start_early(inputs[position], asked[position])
        keys = [future.result().key for future in asked]
        self._check()
        definition = op.definition_key(keys)
        if definition is not None and (hit := self._lookup(state, definition)):
            return hit
        if not op.content_inputs:
            if definition is None:
                raise Internal(f"{vertex.name}: no cache key")
            return _Key(definition, ())
        made = [self._result(inputs[position]) for position in op.content_inputs]
        content = self._content_key(state, keys, [future.result().result for future in made])
        aliases = () if definition is None else (definition,)
        if hit := self._lookup(state, content):
            if aliases and hit.answer is not None:
                self._cache.put(hit.key, aliases, hit.answer.result)
            return hit
        return _Key(content, aliases)

    def _content_key(self, state: _State[R], keys: Sequence[Digest], contents: Sequence[R]) -> Digest:
        """The key that contents decide; when that fails, the vertex did, though nothing of it ran."""
        try:
            return state.op.content_key(keys, contents)
        except BaseException as error:
            self._observer.started(state.vertex)
            self._observer.finished(state.vertex, error)
            self._cancelled.set()
            raise

    def _start_early(self, state: _State[R], asked: Future[_Key[R]]) -> None:
        """Make a result whose content will be asked for, once its own key turned out to be unknown.

        Its user's key waits for the other inputs too; without this, stages that are copied from one after the other
        would run one after the other.
        """

        def known(future: Future[_Key[R]]) -> None:
            if future.exception() is None and future.result().answer is None:
                self._result(state)

        asked.add_done_callback(known)

    def _lookup(self, state: _State[R], key: Digest) -> _Key[R] | None:
        if not (self._use_cache and state.op.cacheable) or state.vertex.ignore_cache:
            return None
        found = self._cache.get(key)
        if found is None:
            return None
        self._spare_inputs(state.vertex)
        self._observer.cached(state.vertex)
        return _Key(found[0], (), Solved(found[0], found[1], cached=True))

    def _spare_inputs(self, vertex: Vertex) -> None:
        """Tell of inputs that have nothing to look up (the base of the first step) that nothing of them is needed."""
        for one in vertex.inputs:
            state = self._state(one)
            with self._lock:
                spared = not (state.op.cacheable or state.spared or state.result is not None)
                state.spared = state.spared or spared
            if spared:
                self._observer.cached(one)

    def _make_result(self, state: _State[R]) -> Solved[R]:
        vertex, op = state.vertex, state.op
        key = self._key(state).result()
        if key.answer is not None:
            return key.answer
        futures = [self._result(self._state(one)) for one in vertex.inputs]
        inputs = [future.result().result for future in futures]
        with self._slots:
            self._check()
            self._observer.started(vertex)
            try:
                result = op.execute(inputs, self._work(vertex))
                if op.cacheable:
                    self._cache.put(key.key, key.aliases, result)
            except BaseException as error:
                self._observer.finished(vertex, error)
                self._cancelled.set()
                raise
        self._observer.finished(vertex, None)
        self._made(vertex, result)
        return Solved(key.key, result, cached=False)

    def _work(self, vertex: Vertex) -> Work:
        return Work(
            lambda stream, data: self._observer.log(vertex, stream, data),
            self._cancelled,
            lambda item, current, done: self._observer.progress(vertex, item, current, done),
        )

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled("the build was cancelled")


class _Key(Generic[R]):
    """A vertex's key, the other keys that lead to it, and the cached answer when there is one."""

    __slots__ = ("aliases", "answer", "key")

    def __init__(self, key: Digest, aliases: Sequence[Digest], answer: Solved[R] | None = None) -> None:
        self.key, self.aliases, self.answer = key, tuple(aliases), answer


class _State(Generic[R]):
    """What is known of one vertex in this solve."""

    __slots__ = ("key", "op", "result", "spared", "vertex")

    def __init__(self, vertex: Vertex, op: Op[R]) -> None:
        self.vertex, self.op = vertex, op
        self.key: Future[_Key[R]] | None = None
        self.result: Future[Solved[R]] | None = None
        self.spared = False


def _spawn(future: Future[T], work: Callable[[], T], vertex: Vertex) -> Future[T]:
    """Answer a future from a thread of its own: vertices mostly wait for each other, a pool would deadlock."""

    def run() -> T:
        try:
            return work()
        except VertexFailed:
            raise
        except BaseException as error:
            raise VertexFailed(vertex, error) from error

    return answer_into(future, run, f"solve {vertex.name}")
