"""Local images: list, inspect, history, tag, remove, prune (C02, C04, C06, C07, C10, C12)."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from lamina.engine.filters import Filters, InvalidFilter, Pairs
from lamina.errors import Invalid, NotFound
from lamina.spec.config import ImageConfig
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference
from lamina.store.lookup import Found
from lamina.store.records import ImageRecord, Removed
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.engine.engine import Engine
    from lamina.store.store import Store

_LIST_FILTERS: Final = frozenset({"dangling", "label", "label!", "before", "since", "reference", "until"})
_PRUNE_FILTERS: Final = frozenset({"dangling", "label", "label!", "until"})


class OtherPlatform(NotFound):
    """An image is here, but not for the platform that was asked for.

    Attributes:
        name: as it was asked for.
        wanted, actual: platforms.
    """

    def __init__(self, name: str, wanted: Platform, actual: Platform) -> None:
        super().__init__(
            f"image with reference {name} was found but does not match the specified platform: "
            f"wanted {wanted}, actual: {actual}"
        )
        self.name, self.wanted, self.actual = name, wanted, actual


class TagNeeded(Invalid):
    """A tag must not carry a digest."""

    def __init__(self) -> None:
        super().__init__("refusing to create a tag with a digest reference")


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image of a list.

    Attributes:
        image: the image.
        tags, digests: its names that passed the filters; both empty for `<none>`.
    """

    image: ImageRecord
    tags: tuple[Reference, ...]
    digests: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One step of an image, as `history` shows it.

    Attributes:
        id: the image after this step where that is here, else None (`<missing>`).
        created: RFC 3339 as written, "" when unknown.
        created_by: the instruction.
        size: bytes that its layer added, 0 without a layer.
        comment: who made it, in words.
        tags: names of the image `id`.
    """

    id: Digest | None
    created: str
    created_by: str
    size: int
    comment: str
    tags: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune did: names and images that are gone, and bytes of disk that are free now."""

    removed: tuple[Removed, ...]
    bytes: int


class Images:
    """The images of one store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def _store(self) -> Store:
        return self._engine.store

    # --- reading -------------------------------------------------------------------------------------------------

    def get(self, name: str, platform: Platform | None = None) -> Found:
        """The image of a name, id or start of an id.

        Args:
            name: what a user typed.
            platform: the image of a multi-platform name to take; None for the one that the name runs as.

        Raises:
            ImageNotFound, AmbiguousImage: as `lamina.store.lookup`.
            OtherPlatform: it is here for other platforms only.
        """
        found = self._store.lookup.find(name)
        return found if platform is None else self.for_platform(found, name, platform)

    def for_platform(self, found: Found, name: str, platform: Platform) -> Found:
        """The image beside `found`, under the same index, that serves a platform.

        Raises:
            OtherPlatform: none does.
        """
        if found.image.platform.score(platform) > 0:
            return found
        if found.target is not None:
            other = self._sibling(found.target, platform)
            if other is not None:
                return Found(other, found.reference, found.target)
        raise OtherPlatform(name, platform, found.image.platform)

    def _sibling(self, target: Digest, platform: Platform) -> ImageRecord | None:
        from lamina.spec.manifest import Index

        index = self._store.images.manifest(target)
        if not isinstance(index, Index):
            return None
        best: tuple[int, ImageRecord] | None = None
        for child in index.images():
            image = self._store.images.image_of(child.digest)
            if image is None:
                continue
            record = self._store.images.get(image)
            score = record.platform.score(platform)
            if score > 0 and (best is None or score > best[0]):
                best = score, record
        return best[1] if best else None

    def config(self, image: Digest) -> ImageConfig:
        """An image's configuration; errors as `ImageStore.config`."""
        return self._store.images.config(image)

    def select(self, filters: Pairs = (), *, all: bool = False) -> list[ListedImage]:
        """Images, the latest created first.

        Args:
            filters: `dangling`, `label`, `label!`, `before`, `since`, `reference`, `until`.
            all: also the untagged ones that others were made from.

        Raises:
            InvalidFilter, InvalidMoment: malformed filters.
            ImageNotFound: `before` or `since` names nothing.
        """
        chosen = Filters(filters, _LIST_FILTERS)
        dangling = chosen.flag("dangling")
        keep = self._age_test(chosen)
        records = self._store.images.all()
        parents = {record.parent_id for record in records}
        patterns = [_pattern(text) for text in chosen.values("reference")]
        listed = []
        for record in records:
            if not keep(record) or not chosen.labels(record.labels):
                continue
            tags, digests = record.tags, record.digests
            if not tags and not digests:
                if patterns or dangling is False or not (all or record.id not in parents):
                    continue
                if record.indexed and (dangling or not all):  # a platform of an index that is listed by its name
                    continue
            else:
                if patterns:
                    tags = tuple(name for name in tags if _matches(patterns, name))
                    digests = tuple(name for name in digests if _matches(patterns, name))
                    if not tags and not digests:
                        continue
                if dangling is True and record.tags:
                    continue
            listed.append(ListedImage(record, tags, digests))
        return listed

    def _age_test(self, filters: Filters) -> Callable[[ImageRecord], bool]:
        """A test of `before`, `since` and `until` on an image."""
        before = [self.get(name).image for name in filters.values("before")]
        since = [self.get(name).image for name in filters.values("since")]
        until = filters.until(self._engine.clock())

        def keep(record: ImageRecord) -> bool:
            created = created_at(record)
            if any(created >= created_at(other) for other in before):
                return False
            if any(created <= created_at(other) for other in since):
                return False
            return until is None or created < until

        return keep

    def inspect(self, name: str, platform: Platform | None = None) -> dict[str, Any]:
        """Docker's JSON object of an image; errors as `get`."""
        from lamina.engine.inspection import driver_name, image_json

        found = self.get(name, platform)
        record, store = found.image, self._store
        names = [entry for entry in store.refs.all() if entry.image == record.id]
        target = found.target or next((entry.target for entry in names if entry.target), None)
        return image_json(
            record,
            store.images.config(record.id),
            driver=driver_name(store.storage_driver),
            directories=self._directories(record),
            tagged_at=max((entry.tagged_at for entry in names), default=""),
            descriptor=store.images.manifest(target).descriptor if target is not None else None,
        )

    def _directories(self, record: ImageRecord) -> dict[str, str]:
        key = self._store.images.snapshot(record.id)
        if key is None:
            return {}
        trees = [f"{directory}/fs" for directory in self._store.snapshots.parents(key)]
        found = {"LowerDir": ":".join(trees[1:])} if trees[1:] else {}
        return found | {"UpperDir": trees[0]}

    def history(self, name: str, platform: Platform | None = None) -> list[HistoryLine]:
        """The steps that made an image, newest first; errors as `get`."""
        record = self.get(name, platform).image
        config = self._store.images.config(record.id)
        sizes = [self._store.layers.get(chain_id).size for _, chain_id in self._store.images.layers(record.id)]
        left = iter(sizes)
        lines = [
            HistoryLine(
                None,
                entry.created,
                entry.created_by,
                0 if entry.empty_layer else next(left, 0),
                entry.comment,
            )
            for entry in config.history
        ]
        # Layers that the history forgot still have a size.
        lines += [HistoryLine(None, config.created, "", size, "") for size in left]
        lines.reverse()
        return self._with_ids(lines, record)

    def _with_ids(self, lines: list[HistoryLine], image: ImageRecord) -> list[HistoryLine]:
        current: ImageRecord | None = image
        result = []
        for line in lines:
            if current is None:
                result.append(line)
                continue
            result.append(HistoryLine(current.id, line.created, line.created_by, line.size, line.comment, current.tags))
            parent = current.parent_id
            found = self._store.lookup.try_find(str(parent)) if parent is not None else None
            current = found.image if found else None
        return result

    # --- changing ------------------------------------------------------------------------------------------------

    def tag(self, source: str, target: str) -> None:
        """Gives an image another name, moving it when it is taken (S17).

        Raises:
            ImageNotFound, AmbiguousImage: the source.
            InvalidReference, TagNeeded: the target.
        """
        reference = Reference.parse(target)
        if reference.digest is not None:
            raise TagNeeded
        found = self.get(source)
        self._store.refs.tag(reference.tagged(), found.image.id, target=self._tag_target(found))

    def _tag_target(self, found: Found) -> Digest | None:
        """What the new name remembers: what the old one was pulled as, so that a push sends the same bytes."""
        if found.target is not None:
            return found.target
        manifests = self._store.images.manifests(found.image.id)
        return manifests[0].digest if manifests else None

    def remove(self, name: str, *, force: bool = False, prune: bool = True) -> list[Removed]:
        """Untags a name, and deletes its image when that was the last one (S43).

        Args:
            name: a name, an id or the start of one.
            force: in spite of stopped containers and further names.
            prune: also delete untagged images it was made from.

        Raises:
            ImageNotFound, AmbiguousImage: see `get`.
            ImageInUse: a conflict, in Docker's words.
        """
        removed = self._store.removal.remove(name, force=force, prune=prune, running=self._running)
        if any(line.deleted for line in removed):
            self.collect()
        return removed

    def prune(self, filters: Pairs = (), *, all: bool = False) -> Pruned:
        """Deletes images that have no tag, or with `all` (or `dangling=false`) those that no container uses (S44).

        Raises:
            InvalidFilter, InvalidMoment: malformed filters; there are `dangling`, `label`, `label!`, `until`.
        """
        chosen = Filters(filters, _PRUNE_FILTERS)
        dangling_only = not all and chosen.flag("dangling") is not False
        until = chosen.until(self._engine.clock())
        records = [
            record
            for record in self._store.images.all()
            if chosen.labels(record.labels)
            and (until is None or created_at(record) < until)
            and (record.dangling or not dangling_only)
        ]
        removed = self._store.removal.prune(_children_first(records), untag=not dangling_only, running=self._running)
        return Pruned(tuple(removed), self.collect())

    def collect(self) -> int:
        """Frees what nothing needs any more, and what killed commands left; returns the bytes of disk."""
        from lamina.engine.abandoned import sweep

        sweep(self._store)  # first, as leases tell what was left, and the collector ends those of the dead
        return self._store.collector.collect().bytes

    def _running(self, container: str) -> bool:
        from lamina.runtime.state import Containers, NoSuchContainer

        try:
            return Containers(self._store.db).find(container).state.running
        except NoSuchContainer:
            return False


def created_at(record: ImageRecord) -> datetime:
    """When an image was created; when that is not known, the epoch."""
    from lamina.errors import LaminaError
    from lamina.spec.timestamp import EPOCH, parse_rfc3339

    try:
        return parse_rfc3339(record.created) if record.created else EPOCH
    except LaminaError:
        return EPOCH


def _children_first(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """So that a parent is free to go once its children went."""
    by_id = {record.id: record for record in records}

    @functools.cache
    def depth(image: Digest) -> int:
        parent = by_id[image].parent_id
        return depth(parent) + 1 if parent in by_id and parent is not None else 0

    return sorted(records, key=lambda record: -depth(record.id))


def _pattern(text: str) -> re.Pattern[str]:
    """A filter like `debian:*`: `*` and `?` stop at slashes, as Go's path.Match."""
    out: list[str] = []
    for piece in re.split(r"(\*|\?|\[[^\]]+\])", text):
        if piece in {"*", "?"}:
            out.append("[^/]*" if piece == "*" else "[^/]")
        elif piece.startswith("[") and piece.endswith("]"):
            out.append("[" + re.sub(r"([\\\[&~|])", r"\\\1", piece[1:]))
        else:
            out.append(re.escape(piece))
    try:
        return re.compile("".join(out))
    except re.error:
        raise InvalidFilter("reference", text) from None


def _matches(patterns: Iterable[re.Pattern[str]], name: Reference) -> bool:
    texts = (name.familiar, name.repository.familiar)
    return any(pattern.fullmatch(text) for pattern in patterns for text in texts)
