"""How `lamina ps` shows containers: placeholders, states and ports in docker's words (C24, S23)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lamina.cli.format.formatter import Column, Formatter, columns
from lamina.cli.format.gotemplate.values import TYPED_NIL
from lamina.cli.format.units import ellipsis, human_duration, human_size_3, short_id
from lamina.cli.output import time_text
from lamina.spec.timestamp import parse_rfc3339

if TYPE_CHECKING:
    from lamina.engine.listing import ListedContainer, Port
    from lamina.runtime.state import ContainerState

_TABLE = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
_COMMAND_WIDTH = 20
_MOUNT_WIDTH = 15


def container_formatter(*, trunc: bool, size: bool, now: float, default: str = "") -> Formatter[ListedContainer]:
    """The formatter of the list.

    Args:
        trunc: shorten ids, commands and mounts.
        size: the table has a column of sizes.
        now: Unix seconds.
        default: another template of the table.
    """
    default = default or _TABLE + ("\t{{.Size}}" if size else "")
    return Formatter("*formatter.ContainerContext", _columns(trunc, now), default=default)


def _columns(trunc: bool, now: float) -> Sequence[Column[Any]]:
    def identity(row: ListedContainer) -> str:
        return short_id(row.record.id) if trunc else row.record.id

    def command(row: ListedContainer) -> str:
        from lamina.cli.format.gotemplate.printf import quote

        return quote(ellipsis(row.command, _COMMAND_WIDTH) if trunc else row.command)

    def image(row: ListedContainer) -> str:
        if not row.image:
            return "<no image>"
        # A name pinned by digest keeps its name and loses the digest.
        return row.image.partition("@")[0] if trunc and "@" in row.image else row.image

    def mounts(row: ListedContainer) -> str:
        names = [str(mount.get("source", "")) for mount in row.record.mounts if mount["type"] != "tmpfs"]
        return ",".join(ellipsis(name, _MOUNT_WIDTH) if trunc else name for name in sorted(names))

    def size(row: ListedContainer) -> str:
        if row.size is None:
            return "0B"
        virtual = f" (virtual {human_size_3(row.size.whole)})" if row.size.whole else ""
        return human_size_3(row.size.own) + virtual

    found = columns(
        ID=("CONTAINER ID", identity),
        Names=("NAMES", lambda row: row.record.name),
        Image=("IMAGE", image),
        Command=("COMMAND", command),
        CreatedAt=("CREATED AT", lambda row: time_text(parse_rfc3339(row.record.created_at).timestamp())),
        RunningFor=("CREATED", lambda row: f"{_since(row.record.created_at, now)} ago"),
        Ports=("PORTS", lambda row: ports_text(row.ports)),
        State=("STATE", lambda row: row.record.state.status),
        Status=("STATUS", lambda row: status_text(row.record.state, now)),
        Size=("SIZE", size),
        Labels=("LABELS", lambda row: ",".join(f"{key}={value}" for key, value in sorted(row.labels.items()))),
        Platform=("PLATFORM", lambda _row: TYPED_NIL),  # docker knows one with the containerd image store only
        Mounts=("MOUNTS", mounts),
        LocalVolumes=(
            "LOCAL VOLUMES",
            lambda row: str(sum(mount["type"] == "volume" for mount in row.record.mounts)),
        ),
        Networks=("NETWORKS", lambda row: row.network),
    )
    return (*found, Column("Label", "", lambda row, key: row.labels.get(key, ""), method=True))


def _since(moment: str, now: float) -> str:
    return human_duration(max(0.0, now - parse_rfc3339(moment).timestamp()))


def status_text(state: ContainerState, now: float) -> str:
    """`Up 2 minutes`, `Exited (0) 3 seconds ago`, `Created`, ..."""
    if state.running:
        up = f"Up {_since(state.started_at, now)}"
        if state.status == "paused":
            return f"{up} (Paused)"
        if state.health == "starting":
            return f"{up} (health: starting)"
        return f"{up} ({state.health})" if state.health not in {"", "none"} else up
    match state.status:
        case "restarting":
            return f"Restarting ({state.exit_code}) {_since(state.finished_at, now)} ago"
        case "removing":
            return "Removal In Progress"
        case "dead":
            return "Dead"
        case "created":
            return "Created"
        case _ if not state.finished_at:
            return ""
    return f"Exited ({state.exit_code}) {_since(state.finished_at, now)} ago"


def ports_text(ports: Sequence[Port]) -> str:
    """`0.0.0.0:8080-8081->80-81/tcp, 443/tcp`: neighbours are joined to ranges."""
    runs: list[list[Port]] = []
    for port in ports:
        run = runs[-1] if runs else None
        if run is not None and _follows(run[-1], port):
            run.append(port)
        else:
            runs.append([port])
    # Docker lists what is not published in place, TCP before UDP.
    return ", ".join(_run_text(run) for run in runs)


def _follows(one: Port, other: Port) -> bool:
    if (one.protocol, one.host_ip) != (other.protocol, other.host_ip):
        return False
    if other.container_port != one.container_port + 1:
        return False
    return other.host_port == (one.host_port + 1 if one.host_port else 0)


def _run_text(run: Sequence[Port]) -> str:
    first, last = run[0], run[-1]
    inside = _range(first.container_port, last.container_port)
    if not first.host_port:
        return f"{inside}/{first.protocol}"
    return f"{first.host_ip}:{_range(first.host_port, last.host_port)}->{inside}/{first.protocol}"


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
