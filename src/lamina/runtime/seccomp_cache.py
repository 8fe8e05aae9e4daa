"""Compiled seccomp filters, kept until the next reboot: crun takes 13 ms to compile Docker's profile, each time.

The filter is crun's own work, taken from its state directory while a container runs, and handed back to it with the
annotation `run.oci.seccomp_bpf_data` (crun(1)) when the very same profile comes again.
"""

from __future__ import annotations

import binascii
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from lamina.runtime.oci import Runtime
from lamina.spec.digest import small_sha256

_ANNOTATION: Final = "run.oci.seccomp_bpf_data"
_INSTRUCTION: Final = 8  # bytes of a struct sock_filter (seccomp(2))
_MOST: Final = 4096 * _INSTRUCTION  # BPF_MAXINSNS
_DIGEST: Final = 32


def applied(run_root: str, runtime: Runtime, spec: dict[str, Any]) -> dict[str, Any]:
    """The bundle with its compiled filter, when there is one; else the bundle as it is.

    Args:
        run_root: where filters are kept; root's own, as all of the runtime's state.
        runtime: that will read the bundle; only crun takes compiled filters.
        spec: a `config.json`. Its profile stays in it: flags are read from there.
    """
    path = _path(run_root, runtime, spec)
    if not path:
        return spec
    try:
        with open(path, "rb") as file:
            content = file.read(_DIGEST + _MOST + 1)
    except OSError:
        return spec
    digest, code = content[:_DIGEST], content[_DIGEST:]
    if not _plausible(code) or small_sha256(code) != digest:
        return spec
    annotations = {_ANNOTATION: binascii.b2a_base64(code, newline=False).decode("ascii"), **spec.get("annotations", {})}
    return {**spec, "annotations": annotations}


def remember(run_root: str, runtime: Runtime, container_id: str, spec: Mapping[str, Any]) -> None:
    """Keeps the filter of a container whose first process runs; a container that ended meanwhile gives none.

    Args:
        run_root: as for `applied`.
        runtime: that runs it.
        container_id: of the container.
        spec: its bundle, as `applied` got it.
    """
    path = _path(run_root, runtime, spec)
    if not path or os.path.exists(path):
        return
    with suppress(OSError):
        with open(os.path.join(runtime.root, container_id, "seccomp.bpf"), "rb") as file:
            code = file.read(_MOST + 1)
        if not _plausible(code):
            return
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # Below /run nothing outlives a power cut, so nothing has to reach a disk; readers see all of it or nothing.
        draft = f"{path}.{container_id}"
        with open(draft, "wb") as file:
            file.write(small_sha256(code) + code)
        os.replace(draft, path)


def _plausible(code: bytes) -> bool:
    return 0 < len(code) <= _MOST and len(code) % _INSTRUCTION == 0


def _path(run_root: str, runtime: Runtime, spec: Mapping[str, Any]) -> str:
    """Where the filter of this profile, by this very crun on this kernel, is kept; "" where none is."""
    profile = spec["linux"].get("seccomp")
    if runtime.name != "crun" or not profile or "listenerPath" in profile:
        return ""
    if _ANNOTATION in spec.get("annotations", {}):
        return ""
    facts = os.stat(runtime.path)
    identity = [profile, runtime.path, facts.st_ino, facts.st_mtime_ns, runtime.version, list(os.uname())[2:]]
    return os.path.join(run_root, "seccomp", small_sha256(json.dumps(identity).encode()).hex())
