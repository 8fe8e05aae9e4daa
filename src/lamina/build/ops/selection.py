"""What a `COPY` selects from its source, and the digest of exactly that (D24, D28, D44).

The digest covers names, kinds, permission bits, contents and link targets, and owners and extended attributes when the
source is another stage. It does not cover times: `touch` and a fresh checkout must hit the cache.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from typing import Protocol

from lamina.build.dockerfile.match import has_wildcard, match
from lamina.build.graph.definitions import Copy
from lamina.build.ops.tree import Entry, MissingSource, SourceTree, clean_path
from lamina.spec.digest import Digest
from lamina.values import dataclass

_CHUNK = 1 << 20
_REPORT = 4 << 10  # bytes that are worth a word


class FileDigests(Protocol):
    """Digests of files, remembered from build to build."""

    def get(self, path: str, facts: os.stat_result) -> bytes | None:
        """The digest known for a file that has not changed since, or None."""
        ...

    def put(self, path: str, facts: os.stat_result, digest: bytes) -> None:
        """Remember a digest."""


@dataclass(frozen=True, slots=True)
class Selected:
    """One source that matched.

    Attributes:
        path: in the source tree, links followed.
        name: the last component as the user named it, for a file that lands in a directory.
        prefix: directories to keep below the destination (`--parents`).
        is_directory: whether its contents, rather than itself, are copied.
        exclude: hides entries by their path relative to this source, or with `prefix` before it where there is one.
    """

    path: str
    name: str
    prefix: str
    is_directory: bool
    exclude: Callable[[str], bool] | None = None

    def entries(self, tree: SourceTree) -> Iterator[Entry]:
        """Everything to copy, parents first."""
        hidden = ""
        for entry in tree.walk(self.path):
            if self.exclude is not None and entry.relative:
                if hidden and entry.relative.startswith(hidden):
                    continue
                if self.exclude(f"{self.prefix}/{entry.relative}" if self.prefix else entry.relative):
                    hidden = entry.relative + "/"
                    continue
            yield entry


def select(tree: SourceTree, copy: Copy) -> list[Selected]:
    """Resolve the sources of a copy.

    The patterns of `--exclude` are relative to a source; with `--parents` to the root of the context, or to the pivot.

    Raises:
        MissingSource: a source without wildcards does not exist; wildcards may match nothing.
    """
    found: list[Selected] = []
    exclude = _excluder(copy.exclude)
    for source in copy.sources:
        pivot = source.partition("/./")[0] if copy.parents and "/./" in source else ""
        pattern = source.replace("/./", "/", 1) if pivot else source
        wild = has_wildcard(pattern)
        paths = tree.glob(pattern, match) if wild else [clean_path(pattern)]
        for path in paths:
            real = tree.resolve(path)
            facts = _facts(tree, real)
            directory = stat.S_ISDIR(facts.st_mode)
            name = posixpath.basename(path)
            kept = _kept(path, clean_path(pivot)) if copy.parents else ""
            # What is excluded is not copied even if its path matches a source; a directory that was named is no match.
            called = kept if copy.parents else name if wild or not directory else ""
            if called and exclude is not None and exclude(called):
                continue
            found.append(Selected(real, name, kept if directory else posixpath.dirname(kept), directory, exclude))
    return found


def _kept(path: str, pivot: str) -> str:
    """What `--parents` keeps of a path: all, or what stands behind the pivot."""
    return path.removeprefix(pivot).lstrip("/") if pivot else path


def _facts(tree: SourceTree, path: str) -> os.stat_result:
    for entry in tree.walk(path):
        return entry.facts
    raise MissingSource(path)


def _excluder(patterns: tuple[str, ...]) -> Callable[[str], bool] | None:
    if not patterns:
        return None
    from lamina.build.dockerfile.ignore import IgnoreMatcher

    return IgnoreMatcher.from_patterns(patterns).excluded


def content_digest(
    tree: SourceTree, copy: Copy, digests: FileDigests | None = None, read: Callable[[int], None] = lambda _bytes: None
) -> Digest:
    """The digest of everything a copy selects.

    Args:
        tree: where it copies from.
        copy: what is asked for.
        digests: of files, remembered.
        read: is told now and then how many more bytes had to be looked at: names, and contents not known already.
    """
    hasher = hashlib.sha256()
    untold = 0
    for source in select(tree, copy):
        name = source.name if not source.is_directory else ""
        hasher.update(_framed([b"source", os.fsencode(name), os.fsencode(source.prefix)]))
        for entry in source.entries(tree):
            parts, size = _fingerprint(tree, entry, copy.keep_owner, digests)
            hasher.update(_framed(parts))
            untold += size
            if untold >= _REPORT:
                read(untold)
                untold = 0
    read(untold)
    return Digest.from_hasher(hasher)


def _framed(parts: list[bytes]) -> bytes:
    """Parts with their lengths, so that no two lists make the same bytes."""
    return b"".join([len(part).to_bytes(8, "big") + part for part in parts])


def _fingerprint(
    tree: SourceTree, entry: Entry, keep_owner: bool, digests: FileDigests | None
) -> tuple[list[bytes], int]:
    """What of an entry decides about the cache, and how many bytes it took to tell."""
    mode = tree.mode_of(entry)
    parts = [os.fsencode(entry.relative), b"%d" % mode]
    size = len(parts[0])
    if keep_owner:
        parts.append(b"%d:%d" % tree.owner_of(entry))
        parts += _attributes(entry)
    if stat.S_ISREG(mode):
        path = f"{tree.root}/{entry.path}"
        digest = digests.get(path, entry.facts) if digests is not None else None
        if digest is None:
            digest = _file_digest(entry)
            size += entry.facts.st_size
            if digests is not None:
                digests.put(path, entry.facts, digest)
        parts.append(digest)
    elif stat.S_ISLNK(mode):
        parts.append(os.fsencode(entry.readlink()))
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        parts.append(b"%d" % entry.facts.st_rdev)
    return parts, size


def _attributes(entry: Entry) -> Iterator[bytes]:
    path = f"/proc/self/fd/{entry.directory_fd}/{entry.name}"
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:
        return
    for name in names:
        if is_copied_attribute(name):
            yield os.fsencode(name)
            yield os.getxattr(path, name, follow_symlinks=False)


def is_copied_attribute(name: str) -> bool:
    """Whether an extended attribute travels with a copy: users' own and file capabilities."""
    return name == "security.capability" or (name.startswith("user.") and not name.startswith("user.overlay."))


def _file_digest(entry: Entry) -> bytes:
    fd = entry.open()
    try:
        hasher = hashlib.sha256()
        while data := os.read(fd, _CHUNK):
            hasher.update(data)
            if len(data) >= entry.facts.st_size:
                break
    finally:
        os.close(fd)
    return hasher.digest()
