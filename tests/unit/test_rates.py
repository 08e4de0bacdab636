"""Rates, and the limits that one process keeps by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyplane.access.limiting import ALONE_S, Limiter
from polyplane.errors import Misconfigured, StoreDown
from polyplane.security.rates import Asked, OwnLimits, Rate, Verdict, rate_of


class Clock:
    """A time that stands until it is moved."""

    def __init__(self) -> None:
        self.now_us = 1_000_000

    def __call__(self) -> int:
        return self.now_us

    @property
    def now_s(self) -> float:
        return self.now_us / 1e6


def test_a_setting_says_a_rate_or_none() -> None:
    assert rate_of("") is None
    assert rate_of("600/60") == Rate(600, 60)
    assert rate_of("600/60/10") == Rate(600, 60, 10)
    for text in ("600", "0/60", "600/0", "-1/60", "600/60/", "600/60s", "600/60/0", "x", "6/60 "):
        with pytest.raises(Misconfigured):
            rate_of(text)
    for limit, period_s, burst in ((0, 60, 0), (1, 0, 0), (1, 60, 0), (10**9, 1e-4, 0)):
        with pytest.raises(Misconfigured):
            Rate(limit, period_s, burst)


@given(
    limit=st.integers(1, 50),
    burst=st.none() | st.integers(1, 60),
    gaps_us=st.lists(st.integers(0, 400_000), min_size=1, max_size=200),
)
def test_no_window_lets_more_pass_than_its_share_and_the_burst(
    limit: int, burst: int | None, gaps_us: list[int]
) -> None:
    clock = Clock()
    limits, rate = OwnLimits(clock_us=clock), Rate(limit, 1.0, burst)
    passed: list[int] = []
    for gap_us in gaps_us:
        clock.now_us += gap_us
        [said] = limits.check_all([Asked("ada", rate)])
        if said.allowed:
            passed.append(clock.now_us)
        else:
            assert said.remaining == 0 and said.retry_after_s > 0
            clock.now_us += round(said.retry_after_s * 1e6)
            assert limits.check_all([Asked("ada", rate)])[0].allowed  # to wait as told is enough
            passed.append(clock.now_us)
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            window_us = passed[last] - start
            assert last - first + 1 <= window_us / rate.interval_us + rate.at_once


def test_all_limits_let_a_request_pass_or_none_counts_it() -> None:
    limits = OwnLimits(clock_us=Clock())
    both = [Asked("ada", Rate(10)), Asked("ada:route", Rate(2))]
    assert [it.remaining for it in limits.check_all(both)] == [9, 1]
    assert [it.remaining for it in limits.check_all(both)] == [8, 0]
    for _ in range(3):
        said = limits.check_all(both)
        assert [(it.allowed, it.remaining) for it in said] == [(True, 8), (False, 0)]
    assert limits.check_all(both[:1])[0].remaining == 7


def test_whoever_comes_under_many_names_gets_no_more() -> None:
    clock = Clock()
    limits, rate = OwnLimits(clients_max=100, clock_us=clock), Rate(5)
    passed = sum(limits.check_all([Asked(f"n{n}", rate)])[0].allowed for n in range(10_000))
    assert passed == 100 + 5
    assert len(limits) == 100
    assert limits.check_all([Asked("n7", rate)])[0].allowed  # who was known still is
    clock.now_us += 60_000_000
    assert limits.check_all([Asked("new", rate)])[0].allowed
    assert len(limits) == 1  # all of them had worked off what they did


def test_what_processes_allow_by_themselves_is_no_more_together() -> None:
    for rate, processes in ((Rate(100), 4), (Rate(100, 60, 10), 3), (Rate(7, 1), 7)):
        share = rate.share(processes)
        assert processes * share.at_once <= rate.at_once
        assert share.interval_us >= processes * rate.interval_us - processes
    assert Rate(1).share(4).at_once == 1


class Flaky:
    """A cache that can be down."""

    def __init__(self) -> None:
        self.is_down = False
        self.asked = 0

    async def check_all(self, asked: list[Asked]) -> list[Verdict]:
        self.asked += 1
        if self.is_down:
            raise StoreDown("The cache does not answer.")
        return [Verdict(True, 99, 0.0)] * len(asked)


async def test_a_process_counts_by_itself_while_the_cache_is_down() -> None:
    clock, cache = Clock(), Flaky()
    own = OwnLimits(clock_us=clock)
    limiter = Limiter(cache, processes=2, own=own, clock=lambda: clock.now_s)  # type: ignore[arg-type]
    assert (await limiter.check("ada", limit=4)).remaining == 99
    cache.is_down = True
    said = [await limiter.check("ada", limit=4) for _ in range(5)]
    assert [it.allowed for it in said] == [True, True, False, False, False]
    assert cache.asked == 2  # it is left alone for a moment
    cache.is_down = False
    clock.now_us += round(ALONE_S * 1e6)
    assert (await limiter.check("ada", limit=4)).remaining == 99


async def test_without_a_cache_there_are_limits_too() -> None:
    limiter = Limiter(None, processes=1)
    said = [await limiter.check("ada", limit=3, period_s=3_600) for _ in range(5)]
    assert [it.allowed for it in said] == [True] * 3 + [False] * 2
    with pytest.raises(Misconfigured):
        await limiter.check("ada", limit=0)
