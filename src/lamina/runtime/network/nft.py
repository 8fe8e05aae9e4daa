"""lamina's own nftables table: address translation, published ports, forwarding (nft(8)).

Everything is one table, written in one transaction and written the same however often; removing the table removes
every trace.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from lamina.errors import Unavailable
from lamina.runtime import oci
from lamina.runtime.network.definition import BridgeNetwork
from lamina.runtime.network.ports import PublishedPort

NFT_SECONDS: Final = 20.0


class FirewallRefused(Unavailable):
    """nft did not accept the rules.

    Attributes:
        said: nft's words.
    """

    def __init__(self, said: str) -> None:
        super().__init__(f"nft failed: {said}", hint="container networks need nftables and the kernel's nf_tables")
        self.said = said


def ruleset(table: str, networks: Iterable[BridgeNetwork]) -> str:
    """The whole table as text for `nft -f`; published ports, which live in its maps, are kept when it exists."""
    guard, forward, postrouting = [], [], []
    for network in networks:
        inside, subnet = f'"{network.bridge}"', network.subnet
        # route_localnet lets the host reach published ports through 127.0.0.1; nobody else may use that way in.
        guard.append(f"iifname {inside} ip daddr 127.0.0.0/8 drop")
        if not network.internal:
            postrouting.append(f"ip saddr {subnet} oifname != {inside} masquerade")
        postrouting.append(f"ip saddr 127.0.0.0/8 oifname {inside} masquerade")
        # A container that reaches its neighbour through the host's published port (hairpin).
        postrouting.append(f"ip saddr {subnet} oifname {inside} ct status dnat masquerade")
        forward.append(f"oifname {inside} ct state established,related accept")
        forward.append(f"iifname {inside} oifname {inside} accept")
        forward.append(f"oifname {inside} ct status dnat accept")
        if network.internal:
            forward.append(f"iifname {inside} drop")
        forward.append(f"oifname {inside} drop")
    chains = {
        "ports": ("", [
            "dnat ip to ip protocol . ip daddr . th dport map @ports_at",
            "dnat ip to ip protocol . th dport map @ports_any",
        ]),
        "prerouting": ("type nat hook prerouting priority dstnat; policy accept;", ["fib daddr type local jump ports"]),
        "output": ("type nat hook output priority -100; policy accept;", ["fib daddr type local jump ports"]),
        "postrouting": ("type nat hook postrouting priority srcnat; policy accept;", postrouting),
        "guard": ("type filter hook prerouting priority raw; policy accept;", guard),
        "forward": ("type filter hook forward priority filter; policy accept;", forward),
    }  # fmt: skip
    lines = [
        f"table ip {table} {{",
        " map ports_at { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }",
        " map ports_any { type inet_proto . inet_service : ipv4_addr . inet_service; }",
        *(f" chain {name} {{ {head} }}" for name, (head, _) in chains.items()),
        "}",
        *(f"flush chain ip {table} {name}" for name in chains),
        f"table ip {table} {{",
    ]
    for name, (_, rules) in chains.items():
        lines += [f" chain {name} {{", *(f"  {rule}" for rule in rules), " }"]
    return "\n".join([*lines, "}", ""])


def _element(table: str, port: PublishedPort, address: str = "") -> str:
    target = f" : {address} . {port.container_port}" if address else ""
    if port.host_ip == "0.0.0.0":
        return f"element ip {table} ports_any {{ {port.protocol} . {port.host_port}{target} }}\n"
    return f"element ip {table} ports_at {{ {port.protocol} . {port.host_ip} . {port.host_port}{target} }}\n"


def publish(table: str, ports: Sequence[PublishedPort], address: str) -> str:
    """Text that publishes ports of the container at `address`; it is refused while another holds one of them."""
    return "".join("add " + _element(table, port, address) for port in ports)


def unpublish(table: str, ports: Sequence[PublishedPort]) -> str:
    """Text that takes published ports away."""
    return "".join("delete " + _element(table, port) for port in ports)


def apply(text: str) -> None:
    """Hands text to `nft -f`; all of it takes effect, or nothing.

    Raises:
        FirewallRefused: nft did not accept it, or is not installed.
        RuntimeTimeout: it hung.
    """
    try:
        oci.call(["/usr/sbin/nft", "-f", "-"], stdin=text.encode(), seconds=NFT_SECONDS)
    except oci.RuntimeTimeout:
        raise
    except (oci.RuntimeCallFailed, oci.NoSuchRuntime) as error:
        raise FirewallRefused(getattr(error, "said", "") or error.message) from None


def delete_table(table: str) -> None:
    """Removes the table; not having it is success.

    Raises:
        FirewallRefused: nft did not accept it, or is not installed.
    """
    apply(f"table ip {table} {{ }}\ndelete table ip {table}\n")


def table_exists(table: str) -> bool:
    """Whether the kernel has the table; asks the kernel itself, since starting nft costs 10 ms (nf_tables netlink)."""
    kind = (10 << 8) | 1  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE
    name = os.fsencode(table) + b"\0"
    attribute = struct.pack("=HH", 4 + len(name), 1) + name + b"\0" * (-len(name) % 4)
    body = struct.pack("=BBH", socket.AF_INET, 0, 0) + attribute
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 12) as asked:  # NETLINK_NETFILTER
        asked.bind((0, 0))
        asked.send(struct.pack("=IHHII", 16 + len(body), kind, 0x1, 1, 0) + body)
        answer = asked.recv(1 << 16)
    length, what = struct.unpack_from("=IH", answer)
    if what == 2:  # NLMSG_ERROR
        return bool(length >= 20 and struct.unpack_from("=i", answer, 16)[0] == 0)
    return True
