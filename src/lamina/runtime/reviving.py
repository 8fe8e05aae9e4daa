"""What should run after a reboot is started again, by the restart policies."""

from __future__ import annotations

from collections.abc import Callable

from lamina.errors import LaminaError
from lamina.runtime.config import ContainerOptions
from lamina.runtime.supervisor import Supervisor


def revive(supervisor: Supervisor, warn: Callable[[str], None]) -> list[str]:
    """Starts what should run after a reboot; returns the ids of what was started.

    `always` starts whatever ran once, `unless-stopped` what the user did not stop, `on-failure` what the reboot
    ended. To be called once after boot; what runs already is left alone.

    Args:
        supervisor: of the containers.
        warn: told of each container that does not start; the others are started all the same.
    """
    known = supervisor.containers.all()
    interrupted = {record.id for record in known if record.state.running or record.state.status == "restarting"}
    started = []
    for record in supervisor.all():
        state, policy = record.state, ContainerOptions.from_json(record.options).restart
        if state.running or state.status == "restarting" or not state.started_at:
            continue
        wanted = policy.wants_restart(state.exit_code, 0, stopped_by_user=state.stopped_by_user)
        if policy.name != "always" and (not wanted or (policy.name == "on-failure" and record.id not in interrupted)):
            continue
        try:
            supervisor.start(record.id)
        except LaminaError as error:
            warn(f"container {record.name} did not start again: {error.message}")
        else:
            started.append(record.id)
    return started
