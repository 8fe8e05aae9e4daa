"""What takes how much: the figures of `system df`, from one accounting (S45, A1).

Layers shared between images count once. Sizes are content bytes, as `images` shows them; `disk` is what du counts.
"""

from __future__ import annotations

from collections.abc import Callable

from lamina.spec.digest import Digest
from lamina.store.backends.driver import ByteDriver
from lamina.store.db import Database
from lamina.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamina.store.snapshots.snapshotter import Snapshotter


@dataclass(frozen=True, slots=True)
class Kind:
    """One line of `system df`.

    Attributes:
        total: how many there are.
        active: how many are in use.
        size: bytes of content.
        reclaimable: bytes of content that a prune of everything unused would free.
        disk: bytes on disk.
    """

    total: int
    active: int
    size: int
    reclaimable: int
    disk: int


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """One image of `system df -v`: `shared` bytes are in layers that other images have too, `unique` are not."""

    id: Digest
    shared: int
    unique: int
    containers: int


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """Everything the store holds.

    Attributes:
        images: layers of images; reclaimable are those only unused images have.
        containers: writable layers; active counts container records, the engine knows which ones run.
        cache: build cache.
        blobs: compressed layers, configs and manifests: `size` is on disk too.
        partials: bytes of unfinished transfers.
        other: bytes on disk of what operations hold, and of the index.
        each: per image.
    """

    images: Kind
    containers: Kind
    cache: Kind
    blobs: Kind
    partials: int
    other: int
    each: tuple[ImageUsage, ...] = field(default=())

    @property
    def disk(self) -> int:
        """Bytes on disk of all together: what du of the data root says, directories apart."""
        parts = (self.images, self.containers, self.cache, self.blobs)
        return sum(part.disk for part in parts) + self.partials + self.other


class UsageStore:
    """Reads the figures."""

    def __init__(
        self,
        db: Database,
        driver: ByteDriver,
        snapshots: Callable[[], Snapshotter],
        other_disk: Callable[[], int],
    ) -> None:
        """`other_disk` gives the bytes that the index's own files take."""
        self._db, self._driver, self._snapshots, self._other_disk = db, driver, snapshots, other_disk

    def read(self) -> StoreUsage:
        """Counts. Writable layers are walked; all else comes from the index."""
        with self._db.read() as connection:
            images = [str(row[0]) for row in connection.execute("SELECT id FROM images")]
            chains = connection.execute("SELECT image_id, chain_id FROM image_layers").fetchall()
            layer_rows = connection.execute("SELECT chain_id, snapshot FROM layers").fetchall()
            snapshots = connection.execute("SELECT key, parent, kind, size, disk FROM snapshots").fetchall()
            containers = connection.execute("SELECT image_id, snapshot_key FROM containers").fetchall()
            cache = connection.execute("SELECT snapshot FROM build_cache").fetchall()
            blobs = connection.execute("SELECT count(*), COALESCE(sum(size), 0) FROM blobs").fetchone()
            dead_blobs = connection.execute(
                "SELECT COALESCE(sum(size), 0) FROM blobs WHERE digest NOT IN"
                " (SELECT id FROM images UNION SELECT digest FROM manifests UNION SELECT digest FROM manifest_blobs"
                " UNION SELECT b.digest FROM layer_blobs AS b JOIN layers AS l ON l.diff_id = b.diff_id)"
            ).fetchone()
        sizes = {str(row[0]): (int(row[3]), int(row[4])) for row in snapshots}
        parents = {str(row[0]): row[1] for row in snapshots}
        snapshot_of = {str(row[0]): str(row[1]) for row in layer_rows}
        users: dict[str, set[str]] = {}
        for image, chain in chains:
            if chain in snapshot_of:
                users.setdefault(snapshot_of[chain], set()).add(image)
        used = {str(row[0]) for row in containers if row[0] is not None}
        image_kind = Kind(
            len(images),
            sum(image in used for image in images),
            sum(sizes[key][0] for key in users),
            sum(sizes[key][0] for key, by in users.items() if not by & used),
            sum(sizes[key][1] for key in users),
        )
        counted = set(users)
        container_kind = self._containers(containers, counted)
        cache_kind = _cache(cache, parents, sizes, counted, {str(row[1]) for row in containers})
        rest = sum(disk for key, (_, disk) in sizes.items() if key not in counted)
        return StoreUsage(
            image_kind,
            container_kind,
            cache_kind,
            Kind(blobs[0], blobs[0], blobs[1], dead_blobs[0], _on_disk(self._driver)),
            sum(partial.disk for partial in self._driver.partials()),
            rest + self._other_disk(),
            tuple(_each(images, users, sizes, containers)),
        )

    def _containers(self, containers: list[tuple[str | None, str | None]], counted: set[str]) -> Kind:
        size = disk = 0
        for _image, key in containers:
            if key is None or key in counted:
                continue
            counted.add(key)
            snapshotter = self._snapshots()
            if snapshotter.find(key) is not None:
                usage = snapshotter.usage(key)
                size, disk = size + usage.size, disk + usage.disk
        return Kind(len(containers), len(containers), size, 0, disk)


def _cache(
    records: list[tuple[str | None]],
    parents: dict[str, str | None],
    sizes: dict[str, tuple[int, int]],
    counted: set[str],
    used: set[str],
) -> Kind:
    """The build cache's own trees, and those below them that no image has."""
    size = disk = active = 0
    for (key,) in records:
        current = key
        active += key in counted or key in used
        while current is not None and current not in counted and current in sizes:
            counted.add(current)
            size, disk = size + sizes[current][0], disk + sizes[current][1]
            current = parents[current]
    return Kind(len(records), active, size, size, disk)


def _each(
    images: list[str],
    users: dict[str, set[str]],
    sizes: dict[str, tuple[int, int]],
    containers: list[tuple[str | None, str | None]],
) -> list[ImageUsage]:
    shared, unique = dict.fromkeys(images, 0), dict.fromkeys(images, 0)
    for key, by in users.items():
        for image in by:
            if len(by) > 1:
                shared[image] += sizes[key][0]
            else:
                unique[image] += sizes[key][0]
    count: dict[str, int] = {}
    for image_id, _ in containers:
        if image_id is not None:
            count[image_id] = count.get(image_id, 0) + 1
    return [ImageUsage(Digest.parse(image), shared[image], unique[image], count.get(image, 0)) for image in images]


def _on_disk(driver: ByteDriver) -> int:
    """Blobs take whole blocks of 4 KiB on the file systems that stores are kept on."""
    return sum((size + 4095) // 4096 * 4096 for _, size in driver.list())
