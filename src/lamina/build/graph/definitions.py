"""The operations a build is made of, as values: what is to be done, before anything is done.

The planner makes them from a Dockerfile, a test or another front end makes them directly, and `lamina.build.ops` turns
them into work. Their JSON form is what cache keys cover, so every field that changes a result must be here, and nothing
else may be.
"""

from __future__ import annotations

import json
from typing import Any

from lamina.spec.digest import Digest
from lamina.values import asdict, dataclass, replace


@dataclass(frozen=True, slots=True)
class Definition:
    """Common to all: the bytes that identify the operation."""

    def definition(self) -> bytes:
        """A stable serialisation; equal values give equal bytes."""
        document: dict[str, Any] = {"op": type(self).__name__, **asdict(self)}
        return json.dumps(document, sort_keys=True, separators=(",", ":"), default=str).encode()


@dataclass(frozen=True, slots=True)
class BaseTree(Definition):
    """The file tree of an image that is in the local store.

    Attributes:
        chain_id: of its top layer; None for `scratch`.
    """

    chain_id: Digest | None


@dataclass(frozen=True, slots=True)
class ContextTree(Definition):
    """A local directory, by the name the build knows it under; content decides, so the path is no part of the value."""

    name: str


@dataclass(frozen=True, slots=True)
class Exec(Definition):
    """Run a program in the tree of input 0.

    Attributes:
        argv: program and arguments, the shell already in place.
        env: `NAME=value`, complete and in order.
        cwd: absolute working directory in the tree.
        user: `USER` form, resolved in the tree.
        network: `default`, `none` or `host`.
        hostname: of the sandbox.
        add_hosts: `name:address`, for /etc/hosts.
        shm_size: bytes of /dev/shm, 0 for the default.
        ulimits: resource limits, `name=soft:hard`.
        hidden_env: further environment that must not decide about the cache (proxies, D38).
    """

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str = "/"
    user: str = ""
    network: str = "default"
    hostname: str = "buildkitsandbox"
    add_hosts: tuple[str, ...] = ()
    shm_size: int = 0
    ulimits: tuple[str, ...] = ()
    hidden_env: tuple[str, ...] = ()

    def definition(self) -> bytes:
        """Without `hidden_env`."""
        # Named base: zero-argument super() does not work in slotted dataclasses before 3.14.
        return Definition.definition(replace(self, hidden_env=()))


@dataclass(frozen=True, slots=True)
class Copy(Definition):
    """Copy what `sources` select in input 1 into the tree of input 0.

    Attributes:
        sources: paths or Go patterns, relative to the root of input 1.
        dest: absolute destination in the tree; a trailing slash is kept and means a directory.
        owner: `user[:group]`, resolved in the destination tree; "" keeps 0:0 for a context, the owner for a tree.
        mode: octal or symbolic mode for all copied entries; "" keeps theirs.
        exclude: Go patterns, relative to each source.
        parents: keep the sources' directories (`--parents`).
        unpack: extract local tar archives (`ADD`).
        keep_owner: input 1 is another tree, whose owners and times are kept.
    """

    sources: tuple[str, ...]
    dest: str
    owner: str = ""
    mode: str = ""
    exclude: tuple[str, ...] = ()
    parents: bool = False
    unpack: bool = False
    keep_owner: bool = False


@dataclass(frozen=True, slots=True)
class Merge(Definition):
    """Put input 1, a tree that stands on nothing, as a layer on top of the tree of input 0 (`--link`)."""


@dataclass(frozen=True, slots=True)
class MakeDirectory(Definition):
    """Make a directory and its parents in the tree of input 0 (`WORKDIR`), owned by `user`."""

    path: str
    user: str = ""
