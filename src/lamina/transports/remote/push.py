"""Push with negotiation: a registry that refuses OCI manifests gets Docker's, where that was not forbidden."""

from __future__ import annotations

import threading

from lamina.image.copy import CopyOptions, copy
from lamina.image.protocols import Image, ImageIndex
from lamina.progress import ProgressSink, discard
from lamina.spec.descriptor import Descriptor
from lamina.transports.remote.sink import ManifestTypeRefused, RemoteSink, docker_only


def push(
    content: Image | ImageIndex,
    sink: RemoteSink,
    options: CopyOptions | None = None,
    *,
    report: ProgressSink = discard,
    cancel: threading.Event | None = None,
) -> Descriptor:
    """Copy to a registry; returns the descriptor of what now stands under the name.

    Raises:
        ManifestTypeRefused: the registry takes neither form, or `preserve_digests` forbids the other.
        LaminaError: as `lamina.image.copy.copy`.
    """
    options = options or CopyOptions()
    try:
        return copy(content, sink, options, report=report, cancel=cancel)
    except ManifestTypeRefused:
        if options.preserve_digests:
            raise
        # The blobs are all there now: only manifests are sent again. An image that was Docker's fails alike.
        return copy(content, docker_only(sink), options, cancel=cancel)
