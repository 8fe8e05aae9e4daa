"""Every limit and switch of the registry server, in one value."""

from __future__ import annotations

from typing import Final

from lamina.values import dataclass

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """How a registry behaves. Sizes are bytes, times are seconds.

    Attributes:
        delete_enabled: whether manifests, tags and blobs may be deleted; 405 UNSUPPORTED otherwise (R12).
        sparse_indexes: accept an index whose children are not (yet) in the repository. They stay 404 until pushed.
        sparse_images: accept an image whose config or layers are not (yet) in the repository, as mirrors that copy in
            parts need it; refused otherwise, so that a client that forgot a blob hears of it (R09).
        max_manifest_bytes: larger manifests are answered 413 (R09, threat 14). 4 MiB, what the specification asks for,
            is also what `lamina.spec` reads at most, so this can be lowered only.
        max_blob_bytes: an upload that grows past this is answered 413 and dropped (threat 54).
        max_uploads: upload sessions open at one time; past it 429 (threat 54, F15).
        upload_ttl: idle upload sessions older than this are removed by the sweep (R08, F15).
        sweep_interval: time between two sweeps.
        scrub_interval: time between two passes that read and verify everything stored (F20); 0 for none.
        scrub_pause: rest after each verified MiB, so that a pass leaves the disk to the clients.
        max_page: the most names one page of tags, catalog or referrers holds; `n` is clamped to it (threat 53).
        max_tags_per_push: the most `?tag=` parameters on one manifest push.
        cache_bytes: memory for manifests served from the cache.
        keepalive_timeout: an idle connection, or one whose request head is not complete, is closed after this.
        body_idle_timeout: a request body, or a reader of a response, that stands still this long is cut.
        min_rate: bytes per second below which an upload is cut, measured over `rate_window` (threat 54).
        rate_window: the time over which `min_rate` is averaged.
        drain_timeout: how long running requests may finish after SIGTERM (F22).
        threads: worker threads for metadata, again for writing blobs, again for sending them.
        access_log: one line per request on the `lamina.registry.access` logger; never headers or query strings.
    """

    delete_enabled: bool = True
    sparse_indexes: bool = True
    sparse_images: bool = False
    max_manifest_bytes: int = 4 * MIB
    max_blob_bytes: int = 256 << 30
    max_uploads: int = 10_000
    upload_ttl: float = 24 * 3600.0
    sweep_interval: float = 300.0
    scrub_interval: float = 7 * 24 * 3600.0
    scrub_pause: float = 0.005
    max_page: int = 10_000
    max_tags_per_push: int = 100
    cache_bytes: int = 64 * MIB
    keepalive_timeout: float = 60.0
    body_idle_timeout: float = 60.0
    min_rate: int = 1024
    rate_window: float = 30.0
    drain_timeout: float = 30.0
    threads: int = 8
    access_log: bool = False
