"""What conmon runs when a container has ended: settles it, and starts it again where its restart policy says so.

Started as a script, isolated and without site packages, for a quick start; so it uses the standard library only.
Usage: exited.py ROOT RUN_ROOT DATABASE CONTAINER_ID
"""

from __future__ import annotations

import os
import sys
import time

if not __package__:
    # -S and -I leave lamina itself unknown; it is where this file is.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from contextlib import suppress
from datetime import UTC, datetime

from lamina.errors import LaminaError
from lamina.runtime import process
from lamina.runtime.config import ContainerOptions
from lamina.runtime.paths import RuntimePaths
from lamina.runtime.state import ContainerRecord, ContainerState, NoSuchContainer
from lamina.runtime.supervisor import Supervisor
from lamina.spec.timestamp import parse_rfc3339
from lamina.store.db import Database
from lamina.values import replace

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 60.0
_LONG_ENOUGH = 10.0  # a run of so many seconds starts the series of delays anew


def main(arguments: list[str]) -> None:
    """Settles the container, and restarts it for as long as its policy wants and its start fails."""
    root, run_root, database, container_id = arguments
    if not os.path.exists(database):
        return  # the store was deleted under its containers; make no directories for it
    paths = RuntimePaths(root, run_root, database)
    supervisor = Supervisor(paths, Database(database), discard=discard)
    supervisor.finish(container_id)
    while True:
        delay = schedule(supervisor, container_id)
        if delay is None:
            return
        time.sleep(delay)
        try:
            supervisor.start(container_id, restarting=True)
            return
        except NoSuchContainer:
            return
        except LaminaError:
            # Noted in the record; the policy decides whether that was the last time.
            continue


def schedule(supervisor: Supervisor, container_id: str) -> float | None:
    """Marks a container for a restart; the seconds to wait before it, or None when it stays as it is."""
    delay: list[float] = []

    def change(state: ContainerState) -> ContainerState:
        delay.clear()
        if state.status != "exited":
            return state
        policy = options.restart
        if not policy.wants_restart(state.exit_code, state.restart_count, stopped_by_user=state.stopped_by_user):
            return state
        failed = bool(state.error)
        count = 0 if ran_long(state) and not failed else state.restart_count
        delay.append(min(_LONGEST_DELAY, _FIRST_DELAY * 2**count))
        return replace(
            state,
            status="restarting",
            restart_count=state.restart_count + (1 if failed else 0),
            conmon=process.stamp(),
        )

    with suppress(NoSuchContainer):
        options = ContainerOptions.from_json(supervisor.containers.find(container_id).options)
        supervisor.containers.update(container_id, change)
    return delay[0] if delay else None


def ran_long(state: ContainerState) -> bool:
    """Whether the last run lasted long enough to be no failure to start."""
    if not state.started_at:
        return False
    end = parse_rfc3339(state.finished_at) if state.finished_at else datetime.now(UTC)
    return (end - parse_rfc3339(state.started_at)).total_seconds() >= _LONG_ENOUGH


def discard(record: ContainerRecord) -> None:
    """Calls what the engine left in the record as `remove_hook`, `module:function`, with the record."""
    hook = record.engine.get("remove_hook", "")
    if hook:
        import importlib

        module, _, function = str(hook).partition(":")
        getattr(importlib.import_module(module), function)(record)


if __name__ == "__main__":
    main(sys.argv[1:])
