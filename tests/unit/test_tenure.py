"""Who should hold which buckets: fair shares, and nobody's loss."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given, strategies as st

from polyplane.flow.tenure import claims
from polyplane.model.key import BUCKETS
from polyplane.truth.leases import Lease


def rounds(workers: list[UUID], count: int, leases: dict[str, UUID]) -> dict[str, UUID]:
    """What is held after each of `workers` has had its turn `count` times; all seats are taken."""
    for _ in range(count):
        for me in workers:
            standing = [Lease(name, holder, holder in workers) for name, holder in leases.items()]
            found = claims(standing, me, ["notes"])
            for collection, bucket in found.surplus:
                del leases[f"projection:{collection}:{bucket}"]
            leases[f"seat:notes:{me}"] = me
            for collection, bucket in found.wanted:
                name = f"projection:{collection}:{bucket}"
                if leases.get(name) not in workers:
                    leases[name] = me
    return {name: who for name, who in leases.items() if name.startswith("projection:")}


@pytest.mark.parametrize("count", range(1, 12))
def test_every_bucket_has_one_of_all_workers_and_shares_are_fair(count: int) -> None:
    workers = [uuid4() for _ in range(count)]
    held = rounds(workers, 3, {})
    assert len(held) == BUCKETS
    each = [list(held.values()).count(me) for me in workers]
    assert max(each) <= -(-BUCKETS // count)


@given(st.lists(st.integers(0, 5), max_size=6))
def test_whoever_comes_and_goes_nothing_is_left_alone(turns: list[int]) -> None:
    """After each change of the crowd, within three rounds."""
    everybody = [UUID(int=n + 1) for n in range(6)]
    present = {everybody[0]}
    leases: dict[str, UUID] = {}
    for turn in turns:
        present ^= {everybody[turn]}
        present = present or {everybody[0]}
        held = rounds(sorted(present), 3, leases)
        assert len(held) == BUCKETS
        assert set(held.values()) <= present


def test_what_others_hold_is_left_to_them() -> None:
    me, other = uuid4(), uuid4()
    standing = [Lease(f"projection:notes:{n}", other, True) for n in range(8)]
    assert claims(standing, me, ["notes"]).wanted == []
    assert len(claims(standing, me, ["notes", "things"]).wanted) == 8
    standing = [Lease(name, holder, False) for name, holder, _ in standing]
    assert len(claims(standing, me, ["notes"]).wanted) == 8
