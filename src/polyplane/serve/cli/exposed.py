"""Whether an API may be heard beyond this machine: not with secrets that nobody chose."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from polyplane.errors import Misconfigured
from polyplane.settings import Settings

if TYPE_CHECKING:  # the demo needs the rest at once
    from polyplane.access.people import People

DEMO: Final = "demo"
"""The file that tells a home which the demo was shown on."""


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def mark_demo(home: Path) -> None:
    """Note that what is in this home was made for a show."""
    (home / DEMO).touch()


def check_address(settings: Settings) -> None:
    """Raise Misconfigured for a public address of a home that the demo was shown on."""
    if not is_loopback(settings.api_host) and (settings.home / DEMO).exists():
        raise Misconfigured(
            f"{settings.home} is a demonstration: its contents and secrets were made up for it, so "
            f"it is not shown on {settings.api_host}.",
            fix="Use another --home, or leave POLYPLANE_API_HOST out.",
        )


async def check_people(settings: Settings, people: People) -> None:
    """Raise Misconfigured when a public plane would open to a generated secret alone."""
    if not is_loopback(settings.api_host) and not await people.has_administrator():
        raise Misconfigured(
            f"The API would listen on {settings.api_host} with no credential but the one that was "
            f"generated in {settings.home}.",
            fix="Name an administrator first: polyplane init --admin-email you@example.org",
        )


def names_of(settings: Settings) -> list[str]:
    """Host names that the API answers to; none: whatever leads here.

    On loopback only our own, and the further ones of the settings; elsewhere those if there are
    any.
    """
    further = [host.strip() for host in settings.api_hosts.split(",") if host.strip()]
    if not further and not is_loopback(settings.api_host):
        return []
    return ["127.0.0.1", "::1", "localhost", settings.api_host, *further]


def origins_of(settings: Settings) -> list[str]:
    """Origins of other sites whose pages may call, as browsers write them."""
    given = settings.api_origins.split(",")
    return [origin.strip().lower().rstrip("/") for origin in given if origin.strip()]
