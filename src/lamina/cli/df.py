"""`lamina system df -v`: every image, container, volume and cache record with its bytes (C38, S45)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lamina.cli.images import image_columns, image_rows

if TYPE_CHECKING:
    from lamina.engine.buildcache import CacheRecord
    from lamina.engine.images import ListedImage
    from lamina.engine.system import DiskUsage
    from lamina.store.usage import ImageUsage

_IMAGES = (
    "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}"
    "\t{{.Containers}}"
)
_CONTAINERS = (
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}"
)
_VOLUMES = "table {{.Name}}\t{{.Links}}\t{{.Size}}"
_CACHE = "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}"


class _ImageRow(NamedTuple):
    listed: ListedImage
    repository: str
    tag: str
    digest: str
    usage: ImageUsage


def details(usage: DiskUsage, now: float, *, as_json: bool) -> str:
    """The sections.

    Args:
        usage: what to show.
        now: Unix time.
        as_json: one JSON object instead of tables.
    """
    from lamina.cli.container_list import container_formatter
    from lamina.cli.format.formatter import Formatter
    from lamina.cli.format.units import human_size
    from lamina.cli.volumes import volume_columns

    containers = container_formatter(trunc=not as_json, size=False, now=now, default=_CONTAINERS)
    images = Formatter("*formatter.imageContext", image_columns(not as_json, now, usage=True), default=_IMAGES)
    sized = volume_columns(
        lambda row: row.volume, links=lambda row: str(row.links), size=lambda row: human_size(row.size)
    )
    volumes = Formatter("*formatter.volumeContext", sized, default=_VOLUMES)
    cache = Formatter("*formatter.buildCacheContext", _cache_columns(not as_json, now), default=_CACHE)
    each = {one.id: one for one in usage.store.each}
    rows = [
        _ImageRow(*row, each[row.listed.image.id])
        for listed in usage.images
        if listed.image.id in each
        for row in image_rows(listed, with_digests=False, digest_rows=False)
    ]
    if as_json:
        # One row a line is what `json` renders; here they are the members of arrays.
        found = (
            ("Images", images.render(rows, "json")),
            ("Containers", containers.render(usage.containers, "json")),
            ("Volumes", volumes.render(usage.volumes, "json")),
            ("BuildCache", cache.render(usage.cache, "json")),
        )
        return "{" + ",".join(f'"{name}":[{",".join(text.splitlines())}]' for name, text in found) + "}\n"
    return (
        "Images space usage:\n\n"
        + images.render(rows)
        + "\nContainers space usage:\n\n"
        + containers.render(usage.containers)
        + "\nLocal Volumes space usage:\n\n"
        + volumes.render(usage.volumes)
        + f"\nBuild cache usage: {human_size(usage.store.cache.size)}\n\n"
        + cache.render(usage.cache)
    )


def _cache_columns(trunc: bool, now: float) -> Any:
    from lamina.cli.format.formatter import columns
    from lamina.cli.format.units import human_duration, human_size
    from lamina.spec.timestamp import parse_rfc3339

    def ago(text: str) -> str:
        return human_duration(now - parse_rfc3339(text).timestamp()) + " ago"

    def identity(row: CacheRecord) -> str:
        return row.id.rpartition(":")[2][:12] if trunc else row.id

    return columns(
        ID=("CACHE ID", identity),
        CacheType=("CACHE TYPE", lambda _row: "regular"),
        Size=("SIZE", lambda row: human_size(row.size)),
        CreatedSince=("CREATED", lambda row: ago(row.created_at)),
        LastUsedSince=("LAST USED", lambda row: ago(row.last_used_at)),
        UsageCount=("USAGE", lambda row: str(row.keys)),
        Shared=("SHARED", lambda row: str(row.shared).lower()),
    )
