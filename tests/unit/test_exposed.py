"""An API that is heard beyond this machine needs credentials that somebody chose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polyplane.errors import Misconfigured
from polyplane.serve.cli.exposed import (
    check_address,
    check_people,
    is_loopback,
    mark_demo,
    names_of,
    origins_of,
)
from polyplane.settings import Settings


def settings_of(home: Path, **given: Any) -> Settings:
    """Settings that nothing around them fills."""
    return Settings.load(environ={}, home=home, **given)


class People:
    """Whether there is an administrator."""

    def __init__(self, has: bool) -> None:
        self._has = has

    async def has_administrator(self) -> bool:
        """As told."""
        return self._has


def test_loopback_unless_told_otherwise(tmp_path: Path) -> None:
    assert is_loopback(settings_of(tmp_path).api_host)
    assert all(map(is_loopback, ("127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "api.example", "")))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "api.example"])
async def test_a_public_address_needs_people_and_no_demo(tmp_path: Path, host: str) -> None:
    public, here = settings_of(tmp_path, api_host=host), settings_of(tmp_path)
    nobody, somebody = People(False), People(True)
    check_address(public)
    await check_people(public, somebody)  # type: ignore[arg-type]
    with pytest.raises(Misconfigured, match="no credential but the one"):
        await check_people(public, nobody)  # type: ignore[arg-type]
    await check_people(here, nobody)  # type: ignore[arg-type]
    mark_demo(tmp_path)
    with pytest.raises(Misconfigured, match="demonstration"):
        check_address(public)
    check_address(here)


def test_names_and_origins(tmp_path: Path) -> None:
    assert names_of(settings_of(tmp_path, api_host="0.0.0.0")) == []
    named = settings_of(tmp_path, api_host="0.0.0.0", api_hosts="api.example, b.example")
    assert {"api.example", "b.example", "localhost"} <= set(names_of(named))
    assert "localhost" in names_of(settings_of(tmp_path))
    given = settings_of(tmp_path, api_origins="https://Lab.example , http://localhost:3000")
    assert origins_of(given) == ["https://lab.example", "http://localhost:3000"]
    assert origins_of(settings_of(tmp_path)) == []


@pytest.mark.parametrize(
    "given",
    [
        {"api_origins": "*"},
        {"api_origins": "https://a.example/x"},
        {"api_origins": "null"},
        {"api_proxies": "*"},
        {"api_proxies": "any"},
    ],
)
def test_nobody_is_everybody(tmp_path: Path, given: dict[str, str]) -> None:
    with pytest.raises(Misconfigured):
        settings_of(tmp_path, **given)
