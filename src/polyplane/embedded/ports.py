"""Ports on loopback: kept from run to run, unless a stranger has taken one."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection, Mapping

from polyplane.errors import Unavailable

# Below the ports that the kernel gives to outgoing connections, lest one of those sits on ours.
RANGE = range(20_000, 32_000)
TRIES_MAX = 500


def is_free(port: int) -> bool:
    """Whether a server could listen on `port`: nobody does, on any interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as every server does
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def choose(
    names: Collection[str], remembered: Mapping[str, int], taken: Collection[int]
) -> dict[str, int]:
    """A free port for each name: the remembered one where it is still free.

    `taken` are ports to leave alone although nobody listens there yet.
    """
    chosen: dict[str, int] = {}
    for name in names:
        port = remembered.get(name)
        if port is None or not is_free(port):
            port = _new({*taken, *chosen.values()})
        chosen[name] = port
    return chosen


def _new(taken: Collection[int]) -> int:
    for port in random.sample(RANGE, TRIES_MAX):
        if port not in taken and is_free(port):
            return port
    raise Unavailable(f"No free port found between {RANGE.start} and {RANGE.stop}.")
