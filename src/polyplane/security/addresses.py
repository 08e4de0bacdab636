"""Which addresses of the internet may be called for somebody else, and how they are written.

A program that fetches what it is told to is a way into the network it stands in. So nothing but
public addresses counts, written in the one way that every program reads alike; an IPv6 address that
stands for an IPv4 one (mapped, NAT64, 6to4, Teredo) is none.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_CLOSED: Final[tuple[Network, ...]] = (
    # What `is_global` lets through, and nobody serves from.
    IPv4Network("0.0.0.0/8"),
    IPv4Network("100.64.0.0/10"),  # carriers' NAT; some clouds' metadata
    IPv4Network("168.63.129.16/32"),  # a cloud's host, from its guests
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv4Network("198.18.0.0/15"),
    IPv4Network("224.0.0.0/4"),
    IPv4Network("240.0.0.0/4"),
    IPv6Network("::/96"),  # IPv4-compatible, and ::1
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated
    IPv6Network("64:ff9b::/96"),  # NAT64
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("100::/64"),
    IPv6Network("2001::/23"),  # Teredo, ORCHID, benchmarks
    IPv6Network("2001:db8::/32"),
    IPv6Network("2002::/16"),  # 6to4
    IPv6Network("3fff::/20"),
    IPv6Network("5f00::/16"),
    IPv6Network("fc00::/7"),
    IPv6Network("fe80::/9"),  # link-local, and site-local of old
    IPv6Network("ff00::/8"),
)


def is_public(address: Address) -> bool:
    """Whether it is one that anybody may reach, and no way around to one that is not."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address.version == it.version and address in it for it in _CLOSED)


def literal(host: str) -> Address | None:
    """The address that `host` is, written as RFC 3986 has it; None: it is a name.

    Raises ValueError for what a resolver might take for an address all the same: numbers in other
    bases, fewer parts, leading zeros, digits of other scripts.
    """
    bare = host.removeprefix("[").removesuffix("]")
    if bare != host or ":" in host:
        return ip_address(bare)
    last = host.rstrip(".").rpartition(".")[2]
    if last.isascii() and not last.isdigit() and not last.lower().startswith("0x"):
        return None
    if host.endswith("."):
        raise ValueError(host)
    return IPv4Address(host)
