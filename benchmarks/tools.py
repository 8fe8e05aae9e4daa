"""The tools side by side: how each is told to pull, push, build, run, save and load, and how it forgets again."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Protocol

import measure
from daemons import Dockerd, docker_client, program, remove_tree


class Tool(Protocol):
    """One column of the table."""

    name: str
    label: str

    def version(self) -> str:
        """What it calls itself."""
        ...

    def command(self, *arguments: str) -> list[str]:
        """The argv of one of its commands, in docker's words."""
        ...

    @property
    def env(self) -> dict[str, str]:
        """The environment of its commands."""
        ...

    def forget(self, *images: str) -> None:
        """Drop images and their layers, so that the next pull or load is a first one."""

    def forget_builds(self) -> None:
        """Drop the build cache, so that the next build is a first one."""

    def daemon_pids(self) -> list[int]:
        """Processes that work for the command besides itself."""
        ...

    def close(self) -> None:
        """Stop everything and remove its folder."""


def run(tool: Tool, *arguments: str, cwd: str | None = None) -> measure.Run:
    """Run a tool's command with its daemons' memory counted in."""
    daemons = tool.daemon_pids()
    for pid in daemons:
        measure.reset_peak(pid)
    done = measure.run(tool.command(*arguments), tool.env, cwd=cwd)
    return measure.Run(done.seconds, done.rss + sum(measure.peak(pid) for pid in daemons), done.output)


def quietly(argv: list[str], env: dict[str, str]) -> None:
    """Run a command whose failure does not matter."""
    subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False)


def _environment(**changes: str) -> dict[str, str]:
    """The user's environment without what steers docker and podman."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "CONTAINER", "BUILDAH", "LAMINA"))}
    return kept | {"HOME": "/run/bench-home"} | changes


class Lamina:
    """This project, as a user runs it: a fresh process each time, no daemon."""

    name = "lamina"
    label = "lamina"

    def __init__(self, folder: str) -> None:
        self._folder, self._turn = folder, 0
        self._program = os.path.join(os.path.dirname(sys.executable), "lamina")
        if not os.path.exists(self._program):
            self._program = program("lamina")
        measure.run([self._program, "version"], self.env)

    @property
    def root(self) -> str:
        """The store in use."""
        return os.path.join(self._folder, f"root{self._turn}")

    @property
    def env(self) -> dict[str, str]:
        return _environment()

    def version(self) -> str:
        return measure.run([self._program, "--version"], self.env).output.strip()

    def command(self, *arguments: str) -> list[str]:
        return [self._program, "--root", self.root, *arguments]

    def forget(self, *images: str) -> None:  # noqa: ARG002
        # A fresh store: lamina keeps blobs and snapshots of removed images until they are collected.
        old = self.root
        self._turn += 1
        remove_tree(old)

    def forget_builds(self) -> None:
        quietly(self.command("builder", "prune", "-af"), self.env)

    def daemon_pids(self) -> list[int]:
        return []

    def close(self) -> None:
        remove_tree(self._folder)


class Docker:
    """dockerd; `buildkit` picks its builder. The two share one daemon."""

    def __init__(self, daemon: Dockerd, *, buildkit: bool) -> None:
        self.name = "buildkit" if buildkit else "docker"
        self.label = "docker+BuildKit" if buildkit else "docker"
        self._daemon, self._buildkit = daemon, buildkit
        self._client = docker_client()

    @property
    def env(self) -> dict[str, str]:
        return _environment(DOCKER_BUILDKIT="1" if self._buildkit else "0", BUILDKIT_PROGRESS="plain")

    def version(self) -> str:
        done = subprocess.run(
            self.command("version", "--format", "{{.Server.Version}}"), env=self.env, capture_output=True, check=False
        )
        return f"docker {done.stdout.decode().strip()}"

    def command(self, *arguments: str) -> list[str]:
        return [self._client, "--host", self._daemon.address, *arguments]

    def forget(self, *images: str) -> None:
        quietly(self.command("rmi", "-f", *images), self.env)
        quietly(self.command("image", "prune", "-f"), self.env)

    def forget_builds(self) -> None:
        quietly(self.command("builder", "prune", "-af"), self.env)

    def daemon_pids(self) -> list[int]:
        return self._daemon.pids

    def close(self) -> None:
        """The daemon is closed by its owner."""


class Podman:
    """podman with folders of its own; runc where crun refuses the machine's cgroups."""

    name = "podman"
    label = "podman"

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._program = program("podman")
        hybrid = not os.path.exists("/sys/fs/cgroup/cgroup.controllers")
        self._runtime = "runc" if hybrid else "crun"
        program(self._runtime)
        os.makedirs(folder)

    @property
    def env(self) -> dict[str, str]:
        return _environment()

    def version(self) -> str:
        return f"podman {subprocess.check_output([self._program, '--version'], text=True).split()[-1]}"

    def command(self, *arguments: str) -> list[str]:
        folders = [
            "--root",
            f"{self._folder}/root",
            "--runroot",
            f"{self._folder}/run",
            "--tmpdir",
            f"{self._folder}/tmp",
        ]
        how = ["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--runtime", self._runtime]
        verb, *rest = arguments
        if verb in {"pull", "push"}:
            rest = ["--tls-verify=false", *rest]
        elif verb == "build":
            # docker's semantics and docker's layers; four stages may run at once, as the others do by themselves
            rest = ["--layers", "--jobs", "4", "--tls-verify=false", *rest]
        elif verb == "run":
            rest = ["--cgroup-parent", "/lamina-bench", *rest]
        elif verb == "save":
            rest = ["--format", "docker-archive", *rest]
        return [self._program, *folders, *how, "--events-backend", "file", verb, *rest]

    def forget(self, *images: str) -> None:
        quietly(self.command("rmi", "-f", *images), self.env)
        quietly(self.command("image", "prune", "-f"), self.env)

    def forget_builds(self) -> None:
        quietly(self.command("image", "prune", "-f"), self.env)

    def daemon_pids(self) -> list[int]:
        return []

    def close(self) -> None:
        remove_tree(self._folder)
