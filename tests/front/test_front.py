"""A sample of the long programs: the API against its document, and texts that mean something."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from polyplane import Plane, Settings
from tests.attack.assisted import OAUTH
from tests.attack.ground import DECLARED as ATTACKED
from tests.conftest import PlaneOf
from tests.front.exploring import explore
from tests.front.injection import inject
from tests.front.payloads import LANGUAGES
from tests.front.planted import DECLARED
from tests.front.serving import inhabited

SEED: Final = 7
SAMPLE: Final = r"^/api/v1/(laboratory/materials|organizations)$"
PAYLOADS: Final = 130


@pytest.fixture
def settings(own_settings: Settings) -> Settings:
    """With a provider, of which the tenants have tokens."""
    return own_settings.model_copy(update={"oauth": OAUTH})


@pytest.fixture
async def plane(plane_of: PlaneOf, settings: Settings) -> Plane:
    """One with two tenants' worth of everything."""
    return await plane_of(settings=settings, **DECLARED)


async def test_the_api_is_as_it_is_documented(plane_of: PlaneOf, settings: Settings) -> None:
    """All of it: `python -m tests.front.openapi_counted`."""
    print(f"seed {SEED}")
    plane = await plane_of(settings=settings, **ATTACKED)
    async with inhabited(plane) as served:
        found = await asyncio.to_thread(
            explore,
            served,
            seed=SEED,
            examples=3,
            phases=("examples", "fuzzing"),
            only=SAMPLE,
        )
    assert sum(found.requests.values()) > 20
    assert (found.failed, found.errors, found.server_errors) == ([], [], 0)
    assert "ignored_auth" in found.checks


async def test_no_text_does_anything(plane: Plane) -> None:
    """More of them: `python -m tests.front.injected_counted`."""
    print(f"seed {SEED}")
    report = await inject(plane, PAYLOADS, SEED)
    assert report.effects == []
    assert set(report.payloads) == set(LANGUAGES)
    assert sum(report.payloads.values()) == PAYLOADS
    assert report.verbatim or report.statuses["done"], "some of them got somewhere"
