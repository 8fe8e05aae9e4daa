"""What a container runs with, as one configuration: the image's under the user's (S25, S31)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.runtime.config import ContainerOptions, exposed_ports
from lamina.runtime.preparation import image_config_of
from lamina.values import replace

if TYPE_CHECKING:
    from lamina.runtime.state import ContainerRecord
    from lamina.spec.config import Healthcheck, RunConfig


def effective(record: ContainerRecord) -> RunConfig:
    """The container's own configuration: what `inspect` shows as `Config` and what `commit` starts from."""
    options = ContainerOptions.from_json(record.options)
    image = image_config_of(record)
    entrypoint, cmd = image.entrypoint, options.command or image.cmd
    if options.entrypoint is not None:
        # `--entrypoint` also drops the image's CMD; an empty one leaves nothing in front of the command.
        entrypoint = tuple(word for word in options.entrypoint if word) or None
        cmd = options.command
    published = {f"{port.container_port}/{port.protocol}" for port in options.publish}
    anonymous = {mount.target for mount in options.mounts if mount.type == "volume" and not mount.source}
    return replace(
        image,
        user=options.user or image.user,
        env=merged_env(image.env, options.env),
        entrypoint=entrypoint,
        cmd=cmd,
        working_dir=options.workdir or image.working_dir,
        labels={**image.labels, **options.labels},
        exposed_ports=tuple(sorted({*exposed_ports(image, options), *published})),
        volumes=tuple(sorted({*image.volumes, *anonymous})),
        stop_signal=options.stop_signal or image.stop_signal,
        healthcheck=_health(image.healthcheck, options.health),
        on_build=(),
    )


def merged_env(image: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
    """The user's variables over the image's, in Docker's order: the user's first, then what the image adds."""
    given = {entry.partition("=")[0]: entry for entry in own}
    kept = [entry for entry in image if entry.partition("=")[0] not in given]
    return tuple(entry for entry in (*given.values(), *kept) if "=" in entry)


def _health(image: Healthcheck | None, own: Healthcheck | None) -> Healthcheck | None:
    if own is None:
        return image
    if image is None or own.test:
        return own
    return replace(
        own,
        test=image.test,
        interval=own.interval or image.interval,
        timeout=own.timeout or image.timeout,
        start_period=own.start_period or image.start_period,
        start_interval=own.start_interval or image.start_interval,
        retries=own.retries or image.retries,
    )
