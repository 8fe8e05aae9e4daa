"""The cases: each leaves a fresh start for every tool, measures one thing, and says what lamina should reach.

Only the tool's own command is measured, never the preparation. Figures are the median of the rounds; the tools take
turns within a round, so that a slow moment of the machine hits them all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field

import content
import tools
from daemons import Registry
from measure import Run, ToolFailed
from tools import Tool, run


@dataclass
class Bench:
    """What all cases share: folders, the registry that holds the images, and their names in it."""

    work: str
    cache: str
    registry: Registry
    notes: list[str] = field(default_factory=list)

    @property
    def large(self) -> str:
        """The large image in the registry."""
        return f"{self.registry.host}/bench/large:1"

    @property
    def small(self) -> str:
        """The busybox image in the registry."""
        return f"{self.registry.host}/bench/busybox:1"

    def archive(self) -> str:
        """The large image as a docker archive of plain tars, named localhost/bench/large:1."""
        return os.path.join(content.large_image(self.cache), "archive.tar")

    def folder(self, *parts: str) -> str:
        """A fresh folder in the work area."""
        path = os.path.join(self.work, *parts)
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        return path


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        name: what `CASES=` picks.
        title: what the table says.
        target: lamina's seconds over the peer's must not exceed this.
        against: the peers' names that count; the fastest of them is the measure.
        rounds: how often each tool does it.
        start: done once for each tool before its first round.
        once: one round; returns the measured run.
        only: the tools that take part; empty means all but BuildKit, which differs from docker only when building.
        memory: whether the peak memory of this case is held under the limit.
    """

    name: str
    title: str
    target: float
    against: tuple[str, ...]
    rounds: int
    once: Callable[[Bench, Tool, int], Run]
    start: Callable[[Bench, Tool], None] = lambda _bench, _tool: None
    only: tuple[str, ...] = ("lamina", "docker", "podman")
    memory: bool = False


LOADED = "localhost/bench/large:1"
BUILDERS = ("lamina", "docker", "buildkit", "podman")


def _pull(bench: Bench, tool: Tool, _turn: int) -> Run:
    tool.forget(bench.large)
    os.sync()
    return run(tool, "pull", bench.large)


def _check_large(bench: Bench, tool: Tool) -> None:
    """The pulled image must be whole: count its files from inside."""
    run(tool, "pull", bench.large)
    counting = "find / -xdev -type f | wc -l"
    try:
        seen = run(tool, "run", "--rm", "--network", "host", bench.large, "sh", "-c", counting)
    except ToolFailed as error:
        bench.notes.append(f"{tool.name} cannot run the pulled image, so it was not checked: {error}")
        return
    count = int(seen.output.strip().splitlines()[-1])
    if count < 12_000:
        raise ToolFailed(f"{tool.name}: the pulled image holds {count} files only")


def _load_start(bench: Bench, tool: Tool) -> None:
    tool.forget(bench.large, LOADED)


def _load(bench: Bench, tool: Tool, _turn: int) -> Run:
    tool.forget(bench.large, LOADED)
    os.sync()
    return run(tool, "load", "-i", bench.archive())


def _have_loaded(bench: Bench, tool: Tool) -> None:
    tool.forget(bench.large, LOADED)
    run(tool, "load", "-i", bench.archive())


def _have_pulled(bench: Bench, tool: Tool) -> None:
    tool.forget(bench.large, LOADED)
    run(tool, "pull", bench.large)


def _push_to_fresh(bench: Bench, tool: Tool, turn: int, source: str) -> Run:
    target = Registry(os.path.join(bench.work, f"push-{tool.name}-{turn}"))
    try:
        name = f"{target.host}/bench/pushed:1"
        run(tool, "tag", source, name)
        os.sync()
        done = run(tool, "push", name)
        held = target.bytes_held()
        bench.notes.append(f"push by {tool.name}: {held / 1e6:.0f} MB in the registry")
        if held > 600_000_000:
            raise ToolFailed(f"{tool.name}: pushed {held / 1e6:.0f} MB in {done.seconds:.2f} s without compressing")
        tools.quietly(tool.command("rmi", name), tool.env)
        return done
    finally:
        target.close()


def _push_loaded(bench: Bench, tool: Tool, turn: int) -> Run:
    # loaded anew each time, so that no tool has compressed layers left over from the round before
    _have_loaded(bench, tool)
    return _push_to_fresh(bench, tool, turn, LOADED)


def _push_pulled(bench: Bench, tool: Tool, turn: int) -> Run:
    return _push_to_fresh(bench, tool, turn, bench.large)


def _save(bench: Bench, tool: Tool, turn: int) -> Run:
    target = os.path.join(bench.folder("saved", tool.name), f"{turn}.tar")
    os.sync()
    done = run(tool, "save", "-o", target, bench.large)
    if os.path.getsize(target) < 200_000_000:
        raise ToolFailed(f"{tool.name}: saved {os.path.getsize(target)} bytes only")
    os.unlink(target)
    return done


def _have_small(bench: Bench, tool: Tool) -> None:
    run(tool, "pull", bench.small)


def _fresh_small(bench: Bench, tool: Tool) -> None:
    tool.forget(bench.small)
    _have_small(bench, tool)


def _context(bench: Bench, tool: Tool) -> str:
    return os.path.join(bench.work, "context", tool.name)


def _build_start(bench: Bench, tool: Tool) -> None:
    folder = bench.folder("context", tool.name)
    content.context(folder)
    steps = "".join(f"RUN echo step {number} > /step{number}\n" for number in range(8))
    with open(os.path.join(folder, "Dockerfile"), "w") as file:
        file.write(f'FROM {bench.small}\nWORKDIR /work\nCOPY src src\n{steps}CMD ["sh"]\n')
    _have_small(bench, tool)


def _build(tool: Tool, folder: str, *options: str) -> Run:
    return run(tool, "build", *options, "-t", "localhost/bench/built:1", ".", cwd=folder)


def _build_cold(bench: Bench, tool: Tool, _turn: int) -> Run:
    tools.quietly(tool.command("rmi", "-f", "localhost/bench/built:1"), tool.env)
    tool.forget_builds()
    if tool.name == "lamina":
        _fresh_small(bench, tool)
    os.sync()
    return _build(tool, _context(bench, tool), "--no-cache")


def _build_warm(bench: Bench, tool: Tool) -> None:
    _build_start(bench, tool)
    _build(tool, _context(bench, tool))


def _build_cached(bench: Bench, tool: Tool, _turn: int) -> Run:
    return _build(tool, _context(bench, tool))


def _build_changed(bench: Bench, tool: Tool, turn: int) -> Run:
    with open(os.path.join(_context(bench, tool), "src/package20/module2000.txt"), "a") as file:
        file.write(f"changed in round {turn}\n")
    return _build(tool, _context(bench, tool))


def _stages_start(bench: Bench, tool: Tool) -> None:
    folder = bench.folder("stages", tool.name)
    stages = "".join(
        f"FROM {bench.small} AS s{number}\nRUN sleep 1 && echo {number} > /made{number}\n" for number in range(4)
    )
    copies = "".join(f"COPY --from=s{number} /made{number} /made{number}\n" for number in range(4))
    with open(os.path.join(folder, "Dockerfile"), "w") as file:
        file.write(f"{stages}FROM {bench.small}\n{copies}")
    _have_small(bench, tool)


def _stages(bench: Bench, tool: Tool, _turn: int) -> Run:
    tool.forget_builds()
    return _build(tool, os.path.join(bench.work, "stages", tool.name), "--no-cache")


def _run_bridged(bench: Bench, tool: Tool, _turn: int) -> Run:
    return run(tool, "run", "--rm", bench.small, "true")


def _run_host(bench: Bench, tool: Tool, _turn: int) -> Run:
    return run(tool, "run", "--rm", "--network", "host", bench.small, "true")


BEST = ("docker", "podman")
CASES: tuple[Case, ...] = (
    Case("pull", "pull and unpack 730 MB, 18.7k entries", 0.5, BEST, 3, _pull, _check_large, memory=True),
    Case("push", "cold push of a loaded image (compresses)", 0.5, BEST, 2, _push_loaded, _load_start, memory=True),
    Case("push-pulled", "cold push of a pulled image", 0.5, BEST, 2, _push_pulled, _have_pulled, memory=True),
    Case("save", "save 730 MB", 0.7, BEST, 3, _save, _have_pulled, memory=True),
    Case("load", "load 730 MB", 0.7, BEST, 3, _load, _load_start, memory=True),
    Case(
        "build-cold", "build: COPY 4000 files, 8 RUN, cold", 0.6, ("buildkit",), 3, _build_cold, _build_start, BUILDERS
    ),
    Case("build-cached", "the same, all cached", 1.0, ("buildkit",), 7, _build_cached, _build_warm, BUILDERS),
    Case("build-changed", "the same, one file changed", 0.5, ("buildkit",), 3, _build_changed, _build_warm, BUILDERS),
    Case("stages", "four stages of RUN sleep 1", 1.0, ("buildkit", "podman"), 3, _stages, _stages_start, BUILDERS),
    Case("run-bridged", "run --rm true, bridged", 0.6, ("docker",), 9, _run_bridged, _have_small),
    Case("run-host", "run --rm true, host network", 0.9, ("docker",), 9, _run_host, _have_small),
)
