"""Bounds on what one layer may cost, so that a bomb fails fast and a real image never notices."""

from __future__ import annotations

from lamina.errors import LimitExceeded
from lamina.values import dataclass

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


class LayerLimit(LimitExceeded):
    """A layer asked for more than its limits allow.

    Attributes:
        what: name of the `Limits` field that was exceeded.
        limit: its value.
        entry: the archive entry at fault, or "" when it is the stream as a whole.
    """

    def __init__(self, what: str, limit: int, message: str, entry: str = "") -> None:
        super().__init__(
            message, hint=f"no real layer is known to need more; the bound is `{what}` of lamina.layer.limits"
        )
        self.what = what
        self.limit = limit
        self.entry = entry


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for reading and applying one layer (threat 9).

    Attributes:
        max_bytes: decompressed bytes of the whole stream, and logical bytes of all files, each.
        max_entries: archive entries.
        max_ratio: decompressed over compressed bytes, once `ratio_grace` bytes came out. Deflate cannot pass 1032;
            real layers stay under 50, apart from short runs of zeros.
        ratio_grace: decompressed bytes that are let through whatever the ratio.
        max_header_bytes: body of one PAX or GNU long-name header (Go's reader, hence Docker, stops at 1 MiB too).
        max_path_bytes: one path or link target, in bytes (PATH_MAX).
        max_depth: components of one path.
        max_xattr_bytes: one extended attribute value (XATTR_SIZE_MAX).
        max_sparse_regions: data regions of one sparse file.
        max_hole_bytes: holes of all sparse files together, in bytes.
        max_window_log: base-2 logarithm of the largest zstd window (27 = 128 MiB = `zstd -22`).
        max_xz_memory: bytes the xz decoder may allocate (`xz -9` needs 65 MiB).
    """

    max_bytes: int = 256 * GIB
    max_entries: int = 4_000_000
    max_ratio: int = 250
    ratio_grace: int = 512 * MIB
    max_header_bytes: int = 1 * MIB
    max_path_bytes: int = 4096
    max_depth: int = 256
    max_xattr_bytes: int = 64 * KIB
    max_sparse_regions: int = 65_536
    max_hole_bytes: int = 4 * GIB
    max_window_log: int = 27
    max_xz_memory: int = 128 * MIB


DEFAULT_LIMITS = Limits()
