"""What should run after a reboot, or after its conmon was killed, is started again by the restart policies."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from lamina.errors import LaminaError
from lamina.runtime.config import ContainerOptions
from lamina.runtime.supervisor import Supervisor

_MARK: Final = "revived"  # in the run root, which a reboot empties


def revive(supervisor: Supervisor, warn: Callable[[str], None]) -> list[str]:
    """Starts what should run and does not; returns the ids of what was started.

    `always` and `unless-stopped` start what the user did not stop, `on-failure` what the reboot ended. The first time
    after a boot `always` also starts what the user had stopped, as Docker's does when its daemon starts.

    Args:
        supervisor: of the containers.
        warn: told of each container that does not start; the others are started all the same.
    """
    mark = os.path.join(supervisor.paths.run_root, _MARK)
    first = not os.path.exists(mark)
    known = supervisor.containers.all()
    interrupted = {record.id for record in known if record.state.running or record.state.status == "restarting"}
    started = []
    for record in supervisor.all():
        state, policy = record.state, ContainerOptions.from_json(record.options).restart
        if state.running or state.status == "restarting" or not state.started_at:
            continue
        wanted = policy.wants_restart(state.exit_code, 0, stopped_by_user=state.stopped_by_user)
        if policy.name == "on-failure":
            wanted = wanted and record.id in interrupted
        if not wanted and not (first and policy.name == "always"):
            continue
        try:
            supervisor.start(record.id)
        except LaminaError as error:
            warn(f"container {record.name} did not start again: {error.message}")
        else:
            started.append(record.id)
    os.makedirs(supervisor.paths.run_root, mode=0o711, exist_ok=True)
    with open(mark, "w", encoding="ascii"):
        pass
    return started
