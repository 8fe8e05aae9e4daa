"""A private corner of the machine for the peers: own network, mounts and process ids.

dockerd rewrites firewall rules and adds bridges, podman keeps state under /run, both leave mounts. Inside these
namespaces none of it touches the machine, a dockerd that already runs here is not disturbed, and when the benchmark
ends, however it ends, the kernel takes everything down.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_MARK = "LAMINA_BENCH_SANDBOX"


def enter() -> None:
    """Start this program again inside fresh namespaces; returns only in there."""
    if os.environ.get(_MARK) == "inside":
        _prepare()
        return
    if os.geteuid() != 0:
        sudo = shutil.which("sudo")
        if sudo is None:
            sys.exit("bench: needs root (dockerd and overlay mounts), and there is no sudo here")
        os.execv(sudo, [sudo, f"PATH={os.environ['PATH']}", sys.executable, *sys.argv])
    os.environ[_MARK] = "inside"
    unshare = shutil.which("unshare") or "unshare"
    options = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    os.execv(unshare, [unshare, *options, sys.executable, *sys.argv])


def _prepare() -> None:
    """Bring up loopback, forward packets, and give /run and /sys the view that the new network needs."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name in ("net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet"):
        with open(f"/proc/sys/{name}", "w") as control:
            control.write("1")
    # A route to nowhere: peers that look for the default interface find one, packets for outside are dropped.
    subprocess.run(["ip", "link", "add", "nowhere", "type", "bridge"], check=False)
    subprocess.run(["ip", "address", "add", "192.0.2.1/24", "dev", "nowhere"], check=False)
    subprocess.run(["ip", "link", "set", "nowhere", "up"], check=False)
    subprocess.run(["ip", "route", "add", "default", "dev", "nowhere"], check=False)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "bench-run", "/run"], check=True)
    os.makedirs("/run/lock", exist_ok=True)


def remove_cgroups(name: str) -> None:
    """Remove the empty cgroups that daemons left below `name` in every hierarchy."""
    for top, folders, _ in os.walk("/sys/fs/cgroup"):
        if top.count("/") > 4:
            folders.clear()
            continue
        if name in folders:
            for path, _, _ in os.walk(os.path.join(top, name), topdown=False):
                try:
                    os.rmdir(path)
                except OSError:
                    continue
