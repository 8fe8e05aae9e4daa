"""`WORKDIR`: a directory that is there from this step on (D19)."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from typing import cast

from lamina.build.graph.definitions import MakeDirectory
from lamina.build.ops.results import Result, Tree, Trees
from lamina.build.solver.cachekey import make_key
from lamina.build.solver.protocols import Work
from lamina.errors import Internal, Invalid
from lamina.spec.digest import Digest
from lamina.values import dataclass


@dataclass(frozen=True, slots=True)
class MakeDirectoryOp:
    """A directory bound to a store."""

    definition: MakeDirectory
    trees: Trees
    time_ns: int
    cacheable: bool = True
    content_inputs: tuple[int, ...] = ()

    def definition_key(self, inputs: Sequence[Digest]) -> Digest:
        """The path, its owner, its time, and the tree it is made in."""
        return make_key(self.definition.definition(), str(self.time_ns), *inputs)

    def content_key(self, _inputs: Sequence[Digest], _contents: Sequence[Result]) -> Digest:
        """Never asked for."""
        raise Internal("a directory is keyed by its definition")

    def execute(self, inputs: Sequence[Result], _work: Work) -> Result:
        """Make it; a directory that exists is left as it is."""
        with self.trees.draft(cast("Tree", inputs[0]).snapshot) as draft:
            make_directory(draft.root, self.definition.path, self.definition.user, self.time_ns)
            return Tree(draft.commit())


def make_directory(root: str, path: str, user: str, time_ns: int) -> None:
    """Make a directory and its parents; times do not depend on the moment of the build.

    Raises:
        Invalid: something that is no directory stands there.
        NoSuchUser: the image does not know the user.
    """
    from lamina.layer.owners import recorded
    from lamina.runtime import rootfs, users  # only when something runs

    owner = users.resolve(root, user)
    stubs = rootfs.missing_stubs(root, [path])
    owners = recorded(root)
    with rootfs.opened(root) as root_fd:
        try:
            made = rootfs.make_directories(root_fd, path, uid=owner.uid, gid=owner.gid, owners=owners)
        except rootfs.UnsafePath as error:
            raise Invalid(f"mkdir {path}: {error.message.rpartition(': ')[2].lower()}") from error
        os.close(made)
        if owners is not None:
            owners.save()
        for stub in reversed(stubs):
            _set_time(root_fd, posixpath.join(stub.parent, stub.name), time_ns)
            if stub.parent_times is not None:
                _set_time(root_fd, stub.parent, stub.parent_times[1])


def _set_time(root_fd: int, path: str, time_ns: int) -> None:
    from lamina.runtime import rootfs

    fd = rootfs.open_path(root_fd, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.utime(fd, ns=(time_ns, time_ns))
    finally:
        os.close(fd)
