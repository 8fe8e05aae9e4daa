"""Measures lamina side by side with dockerd (classic builder and BuildKit) and podman, on one machine in one run.

    python benchmarks/run.py [--cases pull,push] [--tools lamina,podman] [--rounds N] [--list]

Everything happens in private namespaces (see sandbox.py) and below one folder under /var/tmp, which is removed at the
end. A tool that is missing or fails leaves an empty cell and its reason below the table; the run goes on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import content
import registry_cases
import report
import sandbox
from cases import CASES, Bench, Case
from daemons import Dockerd, NotHere, Registry, program
from measure import ToolFailed, run
from tools import Docker, Lamina, Podman, Tool

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache" / "bench"
FAILURES = (ToolFailed, NotHere, RuntimeError, OSError, ValueError)


def main() -> int:
    """Run what the arguments pick; 0 unless nothing at all could be measured."""
    arguments = _arguments()
    names = [case.name for case in CASES] + list(registry_cases.NAMES)
    if arguments.list:
        print("\n".join(names))
        return 0
    picked = arguments.cases.split(",") if arguments.cases else names
    unknown = set(picked) - set(names)
    if unknown:
        print(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(names)}", file=sys.stderr)
        return 2
    wanted = arguments.tools.split(",") if arguments.tools else ["lamina", "docker", "buildkit", "podman"]
    os.makedirs(CACHE, exist_ok=True)
    sandbox.enter()
    os.makedirs("/run/bench-home")
    work = tempfile.mkdtemp(prefix="lamina-bench-", dir=arguments.dir)
    lines: list[report.Line] = []
    facts = _facts()
    try:
        local = [case for case in CASES if case.name in picked]
        if local:
            lines += _compare(local, wanted, work, arguments.rounds, facts)
        if any(name in picked for name in registry_cases.NAMES):
            chosen = [name for name in registry_cases.NAMES if name in picked]
            lines += registry_cases.measure(chosen, arguments.rounds)
    finally:
        sandbox.remove_cgroups("lamina-bench")
        shutil.rmtree(work, ignore_errors=True)
    facts["load_after"] = list(os.getloadavg())
    print(f"\n{report.table(lines)}\n\n{report.memory_table(lines)}\n")
    for line in lines:
        for tool, error in line.errors.items():
            print(f"{line.case}: {tool}: {error}")
    before, after = facts["load_before"][0], facts["load_after"][0]
    print(f"load average: {before:.1f} before, {after:.1f} after; {os.cpu_count()} cores")
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    print(f"written: {report.write(str(HERE / 'results'), stamp, lines, facts)}")
    return 0 if any(line.seconds for line in lines) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", help="comma-separated names; --list shows them")
    parser.add_argument("--tools", help="comma-separated: lamina, docker, buildkit, podman")
    parser.add_argument("--rounds", type=int, help="rounds of every case, instead of its own number")
    parser.add_argument("--dir", default="/var/tmp", help="where the temporary folder goes (a real disk)")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    return parser.parse_args()


def _facts() -> dict[str, Any]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": os.uname().release,
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "load_before": list(os.getloadavg()),
        "tools": {},
    }


def _compare(
    cases: list[Case], wanted: list[str], work: str, rounds: int | None, facts: dict[str, Any]
) -> list[report.Line]:
    print("making the images and contexts (kept in .cache/bench) ...", flush=True)
    registry = Registry(os.path.join(work, "registry"))
    bench = Bench(work, str(CACHE), registry)
    daemon: Dockerd | None = None
    tools: dict[str, Tool] = {}
    broken: dict[str, str] = {}
    try:
        _fill(bench)
        for name in wanted:
            try:
                if name in {"docker", "buildkit"}:
                    daemon = daemon or Dockerd(os.path.join(work, "dockerd"))
                    tools[name] = Docker(daemon, buildkit=name == "buildkit")
                elif name == "podman":
                    tools[name] = Podman(os.path.join(work, "podman"))
                elif name == "lamina":
                    tools[name] = Lamina(os.path.join(work, "lamina"))
                facts["tools"][name] = tools[name].version()
            except FAILURES as error:
                tools.pop(name, None)
                broken[name] = str(error)
                print(f"{name} takes no part: {error}", flush=True)
        return [_case(case, bench, tools, broken, rounds) for case in cases]
    finally:
        for tool in tools.values():
            tool.close()
        if daemon:
            daemon.close()
        registry.close()
        for note in dict.fromkeys(bench.notes):
            print(f"note: {note}")


def _fill(bench: Bench) -> None:
    """Copy the images into the registry, bytes unchanged."""
    skopeo = program("skopeo")
    for folder, target in (
        (content.large_image(bench.cache), bench.large),
        (content.small_image(bench.cache), bench.small),
    ):
        source = f"oci:{folder}:latest"
        argv = [skopeo, "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", source, f"docker://{target}"]
        run(argv, {**os.environ, "HOME": "/run/bench-home"})


def _case(case: Case, bench: Bench, tools: dict[str, Tool], broken: dict[str, str], rounds: int | None) -> report.Line:
    line = report.Line(case.name, case.title, case.target, case.against, held=case.memory)
    line.errors |= {name: reason for name, reason in broken.items() if name in case.only}
    taking_part = [tool for name, tool in tools.items() if name in case.only]
    begin = time.perf_counter()
    for tool in list(taking_part):
        try:
            case.start(bench, tool)
        except FAILURES as error:
            line.errors[tool.name] = str(error)
            taking_part.remove(tool)
    for turn in range(rounds or case.rounds):
        # a different one goes first each round
        order = taking_part[turn % len(taking_part) :] + taking_part[: turn % len(taking_part)] if taking_part else []
        for tool in order:
            try:
                done = case.once(bench, tool, turn)
            except FAILURES as error:
                line.errors[tool.name] = str(error)
                taking_part.remove(tool)
                continue
            line.seconds.setdefault(tool.name, []).append(done.seconds)
            line.memory[tool.name] = max(line.memory.get(tool.name, 0.0), done.rss)
    figures = ", ".join(f"{name} {figure:.2f}" for name in line.seconds if (figure := line.figure(name)) is not None)
    print(f"{case.name}: {figures or 'nothing measured'}  [{time.perf_counter() - begin:.0f} s in all]", flush=True)
    return line


if __name__ == "__main__":
    sys.exit(main())
