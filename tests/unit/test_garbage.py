"""When the interpreter looks for garbage."""

from __future__ import annotations

import gc
import weakref

import pytest

from polyplane import garbage


class Knot:
    """Refers to itself, so that only a search finds that nobody else does."""

    def __init__(self) -> None:
        self.itself = self


def test_long_work_searches_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    with garbage.seldom_collected() as between:
        assert not gc.isenabled()
        knot = weakref.ref(Knot())
        between()
        assert knot() is not None
        monkeypatch.setattr(garbage, "COLLECT_EVERY_S", 0.0)
        between()
        assert knot() is None
    assert gc.isenabled()


def test_whoever_ends_first_lets_it_search_again() -> None:
    """Two works of one process: none leaves it off for good."""
    first, second = garbage.seldom_collected(), garbage.seldom_collected()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_it_stays_off_where_it_was_off() -> None:
    gc.disable()
    try:
        with garbage.seldom_collected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
