"""How `lamina stats` measures and shows containers (C30)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lamina.cli.output import show
from lamina.errors import LaminaError
from lamina.values import dataclass

if TYPE_CHECKING:
    from lamina.cli.context import Context
    from lamina.cli.format.formatter import Formatter
    from lamina.engine.limits import Usage
    from lamina.runtime.state import ContainerRecord

_INTERVAL = 1.0
_CLEAR = "\x1b[H\x1b[J"


@dataclass(frozen=True, slots=True)
class Measured:
    """A container with what it uses: None when it does not run; `cpu` in percent of one CPU."""

    record: ContainerRecord
    usage: Usage | None
    cpu: float


def show_stats(ctx: Context, names: Sequence[str], *, all: bool, format: str, once: bool, trunc: bool) -> None:
    """Measures over one second and shows it; again and again unless `once`, until interrupted."""
    supervisor = ctx.engine.containers.supervisor
    formatter = _formatter(trunc=trunc)
    while True:
        records = [supervisor.find(name) for name in names] if names else supervisor.all()
        shown = [each for each in records if names or all or each.state.running]
        before = {each.id: _measure(each) for each in shown}
        started = time.monotonic()
        time.sleep(_INTERVAL)
        rows = [_measured(each, before[each.id], time.monotonic() - started) for each in shown]
        if not once and ctx.is_tty(ctx.stdout):
            ctx.stdout.write(_CLEAR)
        show(ctx, formatter.render(rows, format))
        ctx.stdout.flush()
        if once:
            return


def _measure(record: ContainerRecord) -> Usage | None:
    from lamina.engine.limits import measure

    try:
        return measure(record) if record.state.running else None
    except LaminaError:
        return None


def _measured(record: ContainerRecord, before: Usage | None, seconds: float) -> Measured:
    after = _measure(record)
    if before is None or after is None:
        return Measured(record, None, 0.0)
    return Measured(record, after, (after.cpu - before.cpu) / seconds / 1e9 * 100)


def _formatter(*, trunc: bool) -> Formatter[Measured]:
    from lamina.cli.format.formatter import Formatter, columns
    from lamina.cli.format.units import bytes_size, human_size_3, short_id

    def identity(row: Measured) -> str:
        return short_id(row.record.id) if trunc else row.record.id

    def memory(row: Measured) -> str:
        if row.usage is None:
            return "0B / 0B"
        return f"{bytes_size(row.usage.memory)} / {bytes_size(row.usage.memory_limit)}"

    def share(row: Measured) -> str:
        if row.usage is None or not row.usage.memory_limit:
            return "0.00%"
        return f"{row.usage.memory / row.usage.memory_limit * 100:.2f}%"

    def pair(one: str, other: str) -> Callable[[Measured], str]:
        def text(row: Measured) -> str:
            if row.usage is None:
                return "0B / 0B"
            return f"{human_size_3(getattr(row.usage, one))} / {human_size_3(getattr(row.usage, other))}"

        return text

    found = columns(
        Container=("CONTAINER", identity),
        ID=("CONTAINER ID", identity),
        Name=("NAME", lambda row: row.record.name),
        CPUPerc=("CPU %", lambda row: f"{row.cpu:.2f}%"),
        MemUsage=("MEM USAGE / LIMIT", memory),
        MemPerc=("MEM %", share),
        NetIO=("NET I/O", pair("received", "sent")),
        BlockIO=("BLOCK I/O", pair("read", "written")),
        PIDs=("PIDS", lambda row: "0" if row.usage is None else str(row.usage.pids)),
    )
    default = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
    return Formatter("*formatter.statsContext", found, default=default)
