"""What docker's daemon refuses of a container's options before anything is made (C13, C14, S28)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lamina.errors import Conflict, Invalid

if TYPE_CHECKING:
    from lamina.runtime.config import ContainerOptions

_LEAST_MEMORY = 6 << 20  # below it no process starts
_LEAST_CPU = 10_000_000  # billionths of a CPU


def check_options(options: ContainerOptions) -> None:
    """Checks limits and options that exclude each other.

    Raises:
        Invalid: a limit that no machine, or not this one, can give.
        Conflict: an option that a network shared with another container does not allow.
    """
    check_limits(options)
    kind, colon, name = options.network.partition(":")
    if kind == "container" and colon:
        if not name:
            raise Invalid("invalid network mode: invalid container format container:<name|id>")
        _check_shared_network(options)


def check_limits(options: ContainerOptions) -> None:
    """Checks memory and CPU.

    Raises:
        Invalid: out of range, or one limit contradicts another.
    """
    memory, swap, reservation = options.memory or 0, options.memory_swap or 0, options.memory_reservation or 0
    if 0 < memory < _LEAST_MEMORY:
        raise Invalid("Minimum memory limit allowed is 6MB")
    if memory > 0 and 0 < swap < memory:
        raise Invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0:
        raise Invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
    if 0 < reservation < _LEAST_MEMORY:
        raise Invalid("Minimum memory reservation allowed is 6MB")
    if 0 < memory < reservation:
        raise Invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
    count = os.cpu_count() or 1
    cpus = options.nano_cpus or 0
    if cpus and not _LEAST_CPU <= cpus <= count * 10**9:
        raise Invalid(f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available")


def _check_shared_network(options: ContainerOptions) -> None:
    """The other container's network has a name, ports, hosts and resolvers already."""
    for given, what in (
        (options.hostname, "hostname and the network mode"),
        (options.dns, "dns and the network mode"),
        (options.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (options.publish or options.publish_all, "port publishing and the container type network mode"),
        (options.expose, "port exposing and the container type network mode"),
    ):
        if given:
            raise Conflict(f"conflicting options: {what}")
