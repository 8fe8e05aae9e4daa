"""What an engine is opened with: directories and the facts of its surroundings, decided at the edge."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lamina.spec.digest import small_sha256
from lamina.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Settings:
    """Where an engine lives and what it is told of the world.

    Attributes:
        root: the store (images, containers, volumes); absolute.
        run_root: state that a reboot wipes (bundles, pid files, sockets); absolute.
        config_dir: where `config.json` with registry credentials lies.
        env: the environment of the edge, for proxies and SOURCE_DATE_EPOCH; nothing else is read from it.
        storage_driver: `overlay`, `vfs`, or "" for the best one here.
        runtime: name or path of the OCI runtime, or "" for the best one here.
    """

    root: str
    run_root: str
    config_dir: str
    env: Mapping[str, str] = field(default_factory=dict)
    storage_driver: str = ""
    runtime: str = ""

    @classmethod
    def at(
        cls,
        root: str,
        *,
        config_dir: str = "",
        env: Mapping[str, str] | None = None,
        storage_driver: str = "",
        runtime: str = "",
    ) -> Settings:
        """Settings for a store, the run root chosen to go with it: one for each store, below /run for root."""
        absolute = os.path.abspath(root)
        known = env or {}
        base = "/run/lamina" if os.geteuid() == 0 else os.path.join(runtime_dir(known), "lamina")
        name = small_sha256(os.fsencode(absolute)).hex()[:12]
        return cls(absolute, os.path.join(base, name), config_dir, known, storage_driver, runtime)


def runtime_dir(env: Mapping[str, str]) -> str:
    """XDG_RUNTIME_DIR, else a directory of the user's own below /tmp (XDG base directory specification)."""
    given = env.get("XDG_RUNTIME_DIR", "")
    return given if os.path.isabs(given) else f"/tmp/lamina-{os.geteuid()}"
