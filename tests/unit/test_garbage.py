"""When the interpreter looks for garbage."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from polyplane import garbage


class Knot:
    """Refers to itself, so that only a search finds that nobody else does."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def searching() -> Iterator[None]:
    """It is on before, whatever others do, and after."""
    gc.enable()
    yield
    gc.enable()


async def test_long_work_searches_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    with garbage.seldom_collected() as between:
        assert not gc.isenabled()
        knot = weakref.ref(Knot())
        between()
        assert knot() is not None
        monkeypatch.setattr(garbage, "COLLECT_EVERY_S", 0.0)
        between()
        assert knot() is None and not gc.isenabled()
    assert gc.isenabled()


async def test_work_that_stands_still_keeps_it_off_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "COLLECT_EVERY_S", 0.01)
    work = garbage.seldom_collected()
    work.__enter__()
    assert not gc.isenabled()
    async with asyncio.timeout(5):
        while not gc.isenabled():
            await asyncio.sleep(0.001)
    work.__exit__(None, None, None)


async def test_whoever_ends_first_lets_it_search_again() -> None:
    """Two works of one process: none leaves it off for good."""
    first, second = garbage.seldom_collected(), garbage.seldom_collected()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


async def test_it_stays_off_where_it_was_off() -> None:
    gc.disable()
    with garbage.seldom_collected() as between:
        between()
    assert not gc.isenabled()
