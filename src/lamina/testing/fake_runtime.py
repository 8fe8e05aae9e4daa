"""OCI runtimes that misbehave on purpose, and the question whether real ones work here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final, Literal

from lamina.runtime import host, oci

Behaviour = Literal["old", "junk", "hangs", "crashes", "floods", "fails"]

_SCRIPTS: Final[dict[Behaviour, str]] = {
    "old": 'case "$1" in --version) echo "runc version 1.0.0-rc2";; esac',
    "junk": "echo '<html>not a runtime</html>'",
    "hangs": "exec sleep 1000",
    "crashes": "kill -SEGV $$",
    "floods": 'case "$1" in --version) yes "runc version 1.2.3" | head -c 8000000;; esac',
    "fails": """case "$1" in
        --version) echo "runc version 1.2.3";;
        *) echo 'level=error msg="no space left"' >&2; exit 1;;
    esac""",
}


def write(path: Path, behaviour: Behaviour) -> Path:
    """Writes an executable that behaves so, and returns its path."""
    path.write_text(f"#!/bin/sh\n{_SCRIPTS[behaviour]}\n", encoding="ascii")
    path.chmod(0o755)
    return path


def why_no_containers() -> str:
    """Why real containers cannot run here, or "" when they can."""
    if os.geteuid() != 0:
        return "running containers needs root"
    for tool in ("conmon", "ip", "nft", "busybox"):
        if shutil.which(tool, path=oci.SEARCH_PATH) is None:
            return f"{tool} is not installed"
    try:
        oci.choose(os.path.join("/tmp", f"lamina-probe-{os.getpid()}"), cgroups=host.cgroup_mode())
    except (oci.NoSuchRuntime, oci.RuntimeTooOld, oci.RuntimeNotUsable) as error:
        return error.message
    finally:
        shutil.rmtree(os.path.join("/tmp", f"lamina-probe-{os.getpid()}"), ignore_errors=True)
    return ""
