"""Servers of a test run that is killed die with it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

OURS = """
from lamina.testing.registry import registry_process
with registry_process({root!r}, "--workers", "2") as (_address, process):
    workers = open(f"/proc/{{process.pid}}/task/{{process.pid}}/children").read().split()
    while len(workers) < 2:
        workers = open(f"/proc/{{process.pid}}/task/{{process.pid}}/children").read().split()
    print(process.pid, *workers, flush=True)
    input()
"""
THEIRS = """
import os
from pathlib import Path
from lamina.testing.docker_registry import docker_registry
with docker_registry(Path({root!r})):
    print(open(f"/proc/{{os.getpid()}}/task/{{os.getpid()}}/children").read(), flush=True)
    input()
"""


@pytest.mark.parametrize(
    ("program", "death"),
    [(OURS, signal.SIGKILL), (THEIRS, signal.SIGKILL), (THEIRS, signal.SIGTERM)],
    ids=["lamina's registry and its workers", "docker-registry", "docker-registry, SIGTERM"],
)
def test_a_server_dies_with_the_run_that_started_it(tmp_path: Path, program: str, death: signal.Signals) -> None:
    for needed in ("setpriv", *(["docker-registry"] if program is THEIRS else [])):
        if shutil.which(needed) is None:
            pytest.skip(f"{needed} is not installed")
    command = [sys.executable, "-c", program.format(root=str(tmp_path))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        servers = [os.pidfd_open(int(pid)) for pid in run.stdout.readline().split()]
        try:
            assert servers
            assert not select.select(servers, [], [], 0)[0]
            run.send_signal(death)
            run.wait(60)
            for server in servers:
                assert select.select([server], [], [], 60)[0], "a server lives on"
        finally:
            for server in servers:
                os.close(server)
