"""What a series store says of all it holds, for `verify`; `SeriesStoreContract` inherits it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

import pyarrow as pa
import pytest

from polyplane.errors import Refused
from polyplane.model.drift import Partition
from polyplane.model.points import EVENT_ID
from polyplane.stores.protocol import HeldBatch, SeriesStore
from polyplane.testing.readings import START, Reading, batch, readings, rows, table
from polyplane.testing.series_scoping import SeriesScopingContract

MONTHS: Final = timedelta(days=6)
"""A step that puts a batch of a few dozen points into several months."""


def number_of(points: pa.Table) -> int:
    """The number of the batch that `points` are of."""
    return int.from_bytes(points[EVENT_ID][0].as_py()[:8], "little", signed=True)


async def partitions_of(store: SeriesStore) -> list[Partition]:
    """All that the store says of its stretches of time."""
    return [await store.partition(Reading, name) for name in await store.partitions(Reading)]


class SeriesProvingContract(SeriesScopingContract):
    """Counts and digests of all there is."""

    async def test_nothing_has_no_partitions(self, store: SeriesStore) -> None:
        assert await store.partitions(Reading) == []
        assert await store.uneven(Reading) == []
        assert await store.batches(Reading, [1, -1]) == []
        with pytest.raises(Refused):
            await store.batches(Reading, list(range(1_001)))

    async def test_a_partition_is_its_points_whatever_their_order_and_copies(
        self, store: SeriesStore, place: str
    ) -> None:
        points = batch("b", 40, step=MONTHS)
        await store.append(Reading, points.slice(10), token="late")
        await store.append(Reading, points.slice(0, 10), token="early")
        before = await partitions_of(store)
        assert [it.name for it in before] == sorted(it.name for it in before)
        assert len({it.digest for it in before}) == len(before) > 3
        assert sum(it.points for it in before) == sum(it.rows for it in before) == 40
        assert all(len(it.digest) == 32 for it in before)
        await store.bulk(Reading, points.slice(5, 20))
        after = await partitions_of(store)
        assert [(it.name, it.points, it.digest) for it in after] == [
            (it.name, it.points, it.digest) for it in before
        ]
        assert sum(it.rows for it in after) == len(await self._raw(place)) == 60

    async def test_partitions_tell_any_two_values_apart(self, store: SeriesStore) -> None:
        """Nothing from zero, from empty and from its neighbour's; one identity throughout."""
        changes: list[dict[str, list[object]]] = [
            {},
            {"level": [0]},
            {"good": [False]},
            {"good": [True]},
            {"level": [0], "good": [False]},
            {"note": [""]},
            {"ratio": [0.0]},
            {"ratio": [-0.0]},
            {"value": [5e-324]},
            {"extra": [{}]},
            {"owner": [UUID(int=0)]},
            {"metric": ["other"]},
        ]
        digests = set()
        for turn, change in enumerate(changes):
            stream = type("Reading", (Reading,), {"name": f"reading_{turn}"})
            await store.prepare(stream)
            points = table("b", readings(1) | change, stream)
            await store.append(stream, points, token="b")
            [name] = await store.partitions(stream)
            digests.add((await store.partition(stream, name)).digest)
        assert len(digests) == len(changes)

    async def test_batches_are_counted_by_their_identities(self, store: SeriesStore) -> None:
        whole, other = batch("b", 40, step=MONTHS), batch("c", 5)
        one, two = number_of(whole), number_of(other)
        await store.append(Reading, whole, token="b")
        await store.append(Reading, other, token="c")
        await store.bulk(Reading, whole)
        found = sorted(await store.batches(Reading, [one, two, 7]))
        assert found == sorted([HeldBatch(one, 40, 40, 39), HeldBatch(two, 5, 5, 4)])
        times = [int(row["time"].timestamp() * 1e6) for row in rows(whole)]
        [some] = await store.batches(Reading, [one], times[10], times[19])
        assert some == HeldBatch(one, 10, 10, 19)
        assert await store.uneven(Reading) == []

    async def test_batches_that_are_not_whole_are_uneven(
        self, store: SeriesStore, place: str
    ) -> None:
        """A point is lost; one is there twice; as many are lost as are there twice."""
        numbers = []
        for name in ("whole", "lost", "twice", "both", "end"):
            points = batch(name, 20, step=MONTHS)
            await store.append(Reading, points, token=name)
            numbers.append(number_of(points))
            if name in ("lost", "both"):
                await self.lose(place, Reading, [rows(points)[7][EVENT_ID]])
            if name in ("twice", "both"):
                later = batch(name, 20, first=START + timedelta(days=500)).slice(3, 1)
                await store.bulk(Reading, later)
            if name == "end":  # without a note of how many there were, nobody knows
                await self.lose(place, Reading, [row[EVENT_ID] for row in rows(points)[15:]])
        _, lost, twice, both, end = numbers
        assert await store.uneven(Reading) == sorted([lost, twice, both])
        found = {it.number: it for it in await store.batches(Reading, numbers)}
        assert found[lost] == HeldBatch(lost, 19, 19, 19)
        assert found[twice] == HeldBatch(twice, 21, 20, 19)
        assert found[both] == HeldBatch(both, 20, 19, 19)
        assert found[end] == HeldBatch(end, 15, 15, 14)
