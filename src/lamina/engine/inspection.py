"""What inspect says about an image: Docker's JSON object, key by key in its order (S38, C04)."""

from __future__ import annotations

from typing import Any, Final

from lamina.spec.config import ImageConfig, RunConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.timestamp import ZERO
from lamina.store.records import ImageRecord

# The Engine API 1.50 shows these members even when they are unset.
_ALWAYS: dict[str, Any] = {
    "Cmd": None,
    "Entrypoint": None,
    "Env": None,
    "Labels": None,
    "OnBuild": None,
    "User": "",
    "Volumes": None,
    "WorkingDir": "",
}


# As Docker calls the driver that stacks many layers by one overlay mount; scripts compare the word.
_DRIVERS: Final = {"overlay": "overlay2"}


def driver_name(driver: str) -> str:
    """The storage driver as Docker names it."""
    return _DRIVERS.get(driver, driver)


def image_json(
    image: ImageRecord,
    config: ImageConfig,
    *,
    driver: str,
    directories: dict[str, str],
    tagged_at: str,
    descriptor: Descriptor | None,
) -> dict[str, Any]:
    """The object.

    Args:
        image: what the index knows.
        config: its document.
        driver: name of the storage driver.
        directories: `UpperDir`, `LowerDir`: where its file tree lies.
        tagged_at: when it last got a name, RFC 3339, or "".
        descriptor: of the manifest or index that it came as, None when there is none.
    """
    result: dict[str, Any] = {
        "Id": str(image.id),
        "RepoTags": [tag.familiar for tag in image.tags],
        "RepoDigests": [digest.familiar for digest in image.digests],
        "Parent": str(image.parent_id or ""),
        "Comment": _comment(config),
    }
    if config.created:
        result["Created"] = config.created
    result |= {
        "DockerVersion": str(config.extra.get("docker_version", "")),
        "Author": config.author,
        "Architecture": config.platform.architecture,
    }
    if config.platform.variant:
        result["Variant"] = config.platform.variant
    result["Os"] = config.platform.os
    if config.platform.os_version:
        result["OsVersion"] = config.platform.os_version
    layers = [str(diff_id) for diff_id in config.diff_ids]
    result |= {
        "Size": image.size,
        "GraphDriver": {"Data": directories, "Name": driver},
        "RootFS": {"Type": "layers", "Layers": layers} if layers else {"Type": "layers"},
        "Metadata": {"LastTagTime": tagged_at or ZERO},
    }
    if descriptor is not None:
        result["Descriptor"] = descriptor.to_json()
    result["Config"] = config_json(config.config)
    return result


def config_json(config: RunConfig) -> dict[str, Any]:
    """The `Config` member: keys sorted, some of them always there."""
    return dict(sorted((_ALWAYS | config.to_json()).items()))


def _comment(config: ImageConfig) -> str:
    """The image's own comment, else that of its last step, which is where Docker takes it from."""
    own = config.extra.get("comment")
    if isinstance(own, str) and own:
        return own
    return config.history[-1].comment if config.history else ""
