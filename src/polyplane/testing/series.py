"""The contract of series stores: inherit it, say how to open the engine, and how to look past it.

    class TestMine(SeriesStoreContract):
        async def open(self, place):
            return await mine.connect(url, database=place)

        async def raw_rows(self, place, stream):
            ...  # every stored row, copies too, with the engine's own client

        async def lose(self, place, stream, identities):
            ...  # delete these points behind the adapter's back

What a test stores it compares with `raw_rows`, so an adapter cannot agree with itself in error.
Needs pytest with pytest-asyncio.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pyarrow as pa
import pytest

from polyplane.errors import Misconfigured, Refused
from polyplane.model.points import EVENT_ID
from polyplane.stores.protocol import SeriesStore
from polyplane.testing.readings import (
    Reading,
    batch,
    readings,
    rows,
    table,
    windows,
)
from polyplane.testing.samples import ALL, HOSTILE
from polyplane.testing.series_proving import MONTHS, SeriesProvingContract


class SeriesStoreContract(SeriesProvingContract):
    """What every series store does. Subclass it as `Test...`."""

    # What is appended is stored, once

    @pytest.mark.parametrize("step", [timedelta(microseconds=1), MONTHS], ids=["dense", "months"])
    async def test_points_are_stored_whole(
        self, store: SeriesStore, place: str, step: timedelta
    ) -> None:
        points = batch("b", 30, step=step)
        await store.append(Reading, points, token="b")
        assert await self._raw(place) == rows(points)

    async def test_extreme_values_are_stored_whole(self, store: SeriesStore, place: str) -> None:
        columns = readings(len(HOSTILE))
        columns["note"] = HOSTILE
        columns["extra"] = [{text: text, "n": None} for text in HOSTILE]
        columns["level"][:3] = [2**63 - 1, -(2**63), 0]
        columns["value"][:4] = [1.7976931348623157e308, 5e-324, -0.0, 0.1 + 0.2]
        columns["time"][:2] = [datetime(1970, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, tzinfo=UTC)]
        points = table("b", columns)
        await store.append(Reading, points, token="b")
        assert await self._raw(place) == rows(points)

    @pytest.mark.parametrize("step", [timedelta(seconds=1), MONTHS], ids=["dense", "months"])
    async def test_a_token_inserts_once(
        self, store: SeriesStore, place: str, step: timedelta
    ) -> None:
        points = batch("b", 30, step=step)
        for _ in range(3):
            await store.append(Reading, points, token="b")
        await store.append(Reading, batch("c", 10), token="c")
        assert await self._raw(place) == rows(pa.concat_tables([points, batch("c", 10)]))

    async def test_a_token_inserts_once_for_ever(self, store: SeriesStore, place: str) -> None:
        points = batch("b", 30, step=MONTHS)
        await store.append(Reading, points, token="b")
        await store.barrier()
        await store.close()
        again = await self.open(place)
        try:
            await again.prepare(Reading)
            await again.append(Reading, points, token="b")
            assert await self._raw(place) == rows(points)
        finally:
            await again.close()

    async def test_a_known_token_does_not_hide_a_loss(self, store: SeriesStore, place: str) -> None:
        points = batch("b", 30, step=MONTHS)
        await store.append(Reading, points, token="b")
        await self.lose(place, Reading, [row[EVENT_ID] for row in rows(points)[5:25]])
        assert len(await self._raw(place)) == 10
        await store.append(Reading, points, token="b")
        assert (await store.count(Reading, ALL)).points == 30
        assert {row[EVENT_ID] for row in await self._raw(place)} == {
            row[EVENT_ID] for row in rows(points)
        }

    async def test_equal_values_of_different_batches_are_different_points(
        self, store: SeriesStore, place: str
    ) -> None:
        for name in ("b", "c"):
            await store.append(Reading, batch(name, 20), token=name)
        assert len(await self._raw(place)) == 40
        assert (await store.count(Reading, ALL)).points == 40

    async def test_copies_count_once(self, store: SeriesStore, place: str) -> None:
        points = batch("b", 40, step=MONTHS)
        for _ in range(2):
            assert await store.bulk(Reading, points) == 40
        await store.append(Reading, points, token="b")
        found = rows(points)
        assert {row[EVENT_ID] for row in await self._raw(place)} == {r[EVENT_ID] for r in found}
        assert (await store.count(Reading, ALL)).points == 40
        answer = await store.window(Reading, ALL, value="value", bucket_s=366 * 86_400, where={})
        assert answer["count"].to_pylist() == [
            w["count"] for w in windows(found, "value", 366 * 86_400)
        ]
        heat = sum(row["metric"] == "heat" for row in found)
        answer = await store.query(ALL, self.select_count, {"metric": "heat"})
        assert answer["n"].to_pylist() == [heat]

    async def test_an_append_of_nothing(self, store: SeriesStore, place: str) -> None:
        await store.append(Reading, batch("b", 1).slice(0, 0), token="b")
        assert await store.bulk(Reading, batch("b", 1).slice(0, 0)) == 0
        assert await self._raw(place) == []

    async def test_a_batch_in_pieces_is_one_batch(self, store: SeriesStore, place: str) -> None:
        points = batch("b", 3_000)
        pieces = pa.concat_tables([points.slice(i, 100) for i in range(0, 3_000, 100)])
        for _ in range(2):
            await store.append(Reading, pieces, token="b")
        assert await self._raw(place) == rows(points)

    async def test_other_columns_are_refused(self, store: SeriesStore, place: str) -> None:
        points = batch("b", 3)
        nulls = points.set_column(3, points.schema.field(3), pa.nulls(3, pa.float64()))
        for wrong in (
            points.drop_columns([EVENT_ID]),
            points.drop_columns(["note"]),
            points.append_column("color", pa.array(["red"] * 3)),
            points.rename_columns({"note": "remark"}),
            points.set_column(3, "value", points["value"].cast(pa.float32())),
            nulls,
        ):
            with pytest.raises(Refused):
                await store.append(Reading, wrong, token="b")
            with pytest.raises(Refused):
                await store.bulk(Reading, wrong)
        assert await self._raw(place) == []

    # Declarations

    async def test_prepare_again_keeps_what_is_there(self, store: SeriesStore, place: str) -> None:
        await store.append(Reading, batch("b", 10), token="b")
        await store.prepare(Reading)
        assert await self._raw(place) == rows(batch("b", 10))

    async def test_prepare_adds_optional_columns(self, store: SeriesStore) -> None:
        await store.append(Reading, batch("b", 10), token="b")

        class Wider(Reading):
            name = "reading"
            retention_days = 36_500
            remark: str | None

        await store.prepare(Wider)
        columns = readings(5) | {"remark": ["new"] * 5}
        await store.append(Wider, table("c", columns, Wider), token="c")
        assert (await store.count(Wider, ALL, {"remark": None})).points == 10
        assert (await store.count(Wider, ALL, {"remark": "new"})).points == 5
        await store.prepare(Wider)

    async def test_prepare_refuses_what_older_points_cannot_follow(
        self, store: SeriesStore
    ) -> None:
        class Required(Reading):
            name = "reading"
            remark: str

        class Retyped(Reading):
            name = "reading"
            value: int

        class Resorted(Reading):
            name = "reading"
            order_by = ("metric", "run")

        class Unsortable(Reading):
            order_by = ("note",)

        class Unknown(Reading):
            indexes = ("color",)

        for changed in (Required, Retyped, Resorted, Unsortable, Unknown):
            with pytest.raises(Misconfigured):
                await store.prepare(changed)

    async def test_streams_do_not_mix(self, store: SeriesStore, place: str) -> None:
        class Other(Reading):
            name = "other"

        with pytest.raises(Misconfigured):
            await store.append(Other, batch("b", 3), token="b")
        await store.prepare(Other)
        await store.append(Reading, batch("b", 3), token="b")
        await store.append(Other, batch("b", 5), token="b")
        assert (len(await self._raw(place)), len(await self._raw(place, Other))) == (3, 5)

    # Other callers, restarts

    async def test_many_callers_at_once(self, store: SeriesStore, place: str) -> None:
        async def append(name: str) -> None:
            for _ in range(2):
                await store.append(Reading, batch(name, 200), token=name)

        names = [f"b{i}" for i in range(6)]
        counting = [store.count(Reading, ALL) for _ in range(6)]
        found = await asyncio.gather(*map(append, names), *counting)
        assert all(n.points % 200 == 0 for n in found if n is not None)
        assert len(await self._raw(place)) == 1_200

    async def test_what_passed_the_barrier_is_there_again(
        self, store: SeriesStore, place: str
    ) -> None:
        await store.ping()
        await store.append(Reading, batch("b", 10), token="b")
        await store.barrier()
        await store.close()
        await store.close()
        again = await self.open(place)
        try:
            await again.prepare(Reading)
            assert await self._raw(place) == rows(batch("b", 10))
            assert (await again.count(Reading, ALL, {"owner": UUID(int=1)})).points == 3
        finally:
            await again.close()
