"""Whether what goes to an engine goes where it should, unread: told from its URL alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qs, urlsplit

LOCAL: Final = frozenset(
    {
        "lancedb",
        "chdb",
        "ladybug",
        "wordllama",
        "deterministic",
        "unix",
        "redis+unix",
        "valkey+unix",
    }
)
"""Schemes of what is in this process, or on a socket of this machine."""
VERIFIED: Final = frozenset(
    {"https", "clickhouses", "rediss", "valkeys", "bolt+s", "neo4j+s", "tls", "wss"}
)
"""Schemes whose client verifies the server's certificate unless it is told not to."""
_POSTGRES: Final = frozenset({"postgresql", "postgres", "postgresql+psycopg"})
_UNVERIFIED: Final = {
    "verify": {"false", "0", "no", "off"},
    "ssl_cert_reqs": {"none", "optional"},
    "ssl_check_hostname": {"false", "0", "no", "off"},
}


def exposed(urls: Mapping[str, str]) -> dict[str, str]:
    """The settings among `urls` (by name) that lead beyond this machine without verified TLS, and
    what to write instead.
    """
    return {name: fix for name, url in urls.items() if (fix := why_exposed(url))}


def why_exposed(url: str) -> str:
    """What to write instead of `url`; '' when it stays on this machine or its TLS is verified.

    A URL may name several servers, by commas: each counts.
    """
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if parts.scheme in _POSTGRES:
        return _of_postgres(parts.netloc, query)
    for one in url.split(",") if parts.scheme in ("nats", "tls", "ws", "wss") else [url]:
        found = urlsplit(one if "://" in one else f"{parts.scheme}://{one}")
        if found.scheme in LOCAL or all(is_loopback(host) for host in _hosts(found.netloc)):
            continue
        if found.scheme == "qdrant" and found.netloc in ("local", ":memory:"):
            continue
        if found.scheme not in VERIFIED:
            return f"a scheme with TLS in place of {found.scheme}://"
        for name, values in _UNVERIFIED.items():
            if query.get(name, "").lower() in values:
                return f"no {name}={query[name]}"
    return ""


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine; '' and paths are sockets."""
    if not host or host.startswith("/") or host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _of_postgres(netloc: str, query: Mapping[str, str]) -> str:
    hosts = query["host"].split(",") if "host" in query else _hosts(netloc)
    hosts += query["hostaddr"].split(",") if "hostaddr" in query else []
    if all(is_loopback(host) for host in hosts) or query.get("sslmode") == "verify-full":
        return ""
    return "?sslmode=verify-full&sslrootcert=..."


def _hosts(netloc: str) -> list[str]:
    """The hosts of `user:password@one:1,two:2`."""
    found = []
    for place in netloc.rpartition("@")[2].split(","):
        if place.startswith("["):
            found.append(place[1:].partition("]")[0])
        else:
            found.append(place.partition(":")[0])
    return found
