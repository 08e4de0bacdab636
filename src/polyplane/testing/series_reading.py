"""What series stores answer; `SeriesStoreContract` inherits it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection
from datetime import datetime, timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from polyplane.errors import Refused, TooLarge
from polyplane.model.points import EVENT_ID
from polyplane.model.stream import Stream
from polyplane.stores.protocol import SeriesStore
from polyplane.testing.readings import (
    FILTERS,
    REFUSED_FILTERS,
    RUNS,
    START,
    Reading,
    Row,
    batch,
    newest,
    readings,
    rows,
    table,
    windows,
)
from polyplane.testing.samples import ALL, HOSTILE, matches


class SeriesReadingContract(ABC):
    """How a store is opened and looked past, and what its reading verbs answer."""

    @abstractmethod
    async def open(self, place: str) -> SeriesStore:
        """The adapter on what is in `place`, a name that is new or was used before."""

    @abstractmethod
    async def raw_rows(self, place: str, stream: type[Stream]) -> list[Row]:
        """Every row the engine holds, copies of a point included, read past the adapter."""

    @abstractmethod
    async def lose(self, place: str, stream: type[Stream], identities: Collection[bytes]) -> None:
        """Delete the points with these event ids, as a crash would."""

    select_count = "SELECT count() AS n FROM reading WHERE metric = {metric:String}"
    """SQL for `query` with one bound text parameter `metric`."""
    writing_sql: tuple[str, ...] = ()
    """SQL that `query` must refuse."""
    endless_sql = ""
    """SQL with more rows than an answer may have."""
    failing_sql = ""
    """SQL that fails when part of the answer is already there."""

    @pytest.fixture
    def place(self) -> str:
        """The name of a place of the test's own."""
        return f"t{uuid4().hex}"

    @pytest.fixture
    async def store(self, place: str) -> AsyncIterator[SeriesStore]:
        """An empty store with the sample stream prepared."""
        store = await self.open(place)
        await store.prepare(Reading)
        yield store
        await store.close()

    async def _raw(self, place: str, stream: type[Stream] = Reading) -> list[Row]:
        return sorted(await self.raw_rows(place, stream), key=lambda row: bytes(row[EVENT_ID]))

    # Reading

    async def test_filters(self, store: SeriesStore) -> None:
        points = batch("b", 60)
        await store.append(Reading, points, token="b")
        for where in FILTERS:
            found = [row for row in rows(points) if matches(row, where)]
            assert (await store.count(Reading, ALL, where)).points == len(found), where
            answer = await store.window(Reading, ALL, value="value", bucket_s=10, where=where)
            counts = [w["count"] for w in windows(found, "value", 10)]
            assert answer["count"].to_pylist() == counts, where
            latest = await store.latest(Reading, ALL, by="metric", where=where)
            assert {r["metric"]: r for r in latest.to_pylist()} == newest(found, "metric"), where

    async def test_impossible_filters_are_refused(self, store: SeriesStore) -> None:
        for where, field in REFUSED_FILTERS:
            for call in (
                store.count(Reading, ALL, where),
                store.window(Reading, ALL, value="value", bucket_s=60, where=where),
                store.latest(Reading, ALL, by="metric", where=where),
            ):
                with pytest.raises(Refused) as refused:
                    await call
                assert refused.value.field == field, where

    async def test_a_uuid_may_be_written_as_text(self, store: SeriesStore) -> None:
        await store.append(Reading, batch("b", 10), token="b")
        assert (await store.count(Reading, ALL, {"run": str(RUNS[1]).upper()})).points == 5

    async def test_windows(self, store: SeriesStore) -> None:
        points = batch("b", 100)
        await store.append(Reading, points, token="b")
        for value, bucket_s in product(("value", "level", "ratio", "good"), (1, 7, 3_600)):
            answer = await store.window(Reading, ALL, value=value, bucket_s=bucket_s, where={})
            expected = windows(rows(points), value, bucket_s)
            assert answer.column_names == ["bucket", "avg", "min", "max", "count"]
            assert answer["bucket"].to_pylist() == [w["bucket"] for w in expected]
            for name in ("avg", "min", "max", "count"):
                found = answer[name].to_pylist()
                assert found == pytest.approx([w[name] for w in expected], rel=1e-12)

    async def test_windows_hold_their_start_and_not_their_end(self, store: SeriesStore) -> None:
        points = batch("b", 100)
        await store.append(Reading, points, token="b")
        times = [row["time"] for row in rows(points)]
        for low, high in ((10, 20), (0, 99), (20, 20)):
            answer = await store.window(
                Reading, ALL, value="value", bucket_s=1, where={}, start=times[low], end=times[high]
            )
            within = [row for row in rows(points) if times[low] <= row["time"] < times[high]]
            assert answer["count"].to_pylist() == [w["count"] for w in windows(within, "value", 1)]
        answer = await store.window(Reading, ALL, value="value", bucket_s=1, where={}, limit=3)
        assert answer["bucket"].to_pylist() == [START + timedelta(seconds=i) for i in range(3)]

    async def test_latest(self, store: SeriesStore) -> None:
        tables = []
        for i, name in enumerate(("b", "c", "a", "d")):  # equal times: identity decides
            tables.append(table(name, readings(50) | {"value": [float(i)] * 50}))
            await store.append(Reading, tables[-1], token=name)
        for by in ("metric", "run", "note", "level", "good"):
            answer = (await store.latest(Reading, ALL, by=by, where={})).to_pylist()
            expected = newest(rows(pa.concat_tables(tables)), by)
            assert {row[by]: row for row in answer} == expected, by
            assert len(answer) == len(expected), by
            assert len(await store.latest(Reading, ALL, by=by, where={}, limit=1)) == 1

    async def test_reading_nothing(self, store: SeriesStore) -> None:
        assert (await store.count(Reading, ALL)).points == 0
        assert len(await store.window(Reading, ALL, value="value", bucket_s=60, where={})) == 0
        assert len(await store.latest(Reading, ALL, by="metric", where={})) == 0

    async def test_impossible_reads_are_refused(self, store: SeriesStore) -> None:
        window: dict[str, Any] = {"value": "value", "bucket_s": 60, "where": {}}
        for changed, field in (
            ({"value": "metric"}, "value"),
            ({"value": "color"}, "color"),
            ({"bucket_s": 0}, "bucket_s"),
            ({"bucket_s": -60}, "bucket_s"),
            ({"limit": 0}, "limit"),
            ({"limit": 10**9}, "limit"),
            ({"start": datetime(2026, 1, 1)}, "start"),
            ({"end": datetime(2026, 1, 1)}, "end"),
        ):
            with pytest.raises(Refused) as refused:
                await store.window(Reading, ALL, **{**window, **changed})
            assert refused.value.field == field
        with pytest.raises(Refused):
            await store.latest(Reading, ALL, by="color", where={})
        with pytest.raises(Refused):
            await store.latest(Reading, ALL, by="metric", where={}, limit=0)

    async def test_hostile_strings_are_only_strings(self, store: SeriesStore) -> None:
        columns = readings(len(HOSTILE))
        columns["note"] = columns["metric"] = HOSTILE
        await store.append(Reading, table("b", columns), token="b")
        for text in HOSTILE:
            assert (await store.count(Reading, ALL, {"note": text})).points == 1
            assert (await store.count(Reading, ALL, {"note": [text, "x"]})).points == 1
            answer = await store.query(ALL, self.select_count, {"metric": text})
            assert answer["n"].to_pylist() == [1]
            with pytest.raises(Refused):
                await store.count(Reading, ALL, {text: "ada"})
        assert (await store.count(Reading, ALL)).points == len(HOSTILE)

    async def test_queries_only_read(self, store: SeriesStore, place: str) -> None:
        await store.append(Reading, batch("b", 10), token="b")
        for sql in self.writing_sql:
            with pytest.raises(Refused):
                await store.query(ALL, sql, {})
        with pytest.raises(Refused) as refused:
            await store.query(ALL, self.select_count, {"metric": "heat", "unused": 1})
        assert refused.value.field == "unused"
        assert await self._raw(place) == rows(batch("b", 10))

    async def test_queries_are_bounded(self, store: SeriesStore) -> None:
        with pytest.raises(TooLarge):
            await store.query(ALL, self.endless_sql, {})
        assert (await store.query(ALL, self.select_count, {"metric": ""}))["n"].to_pylist() == [0]

    async def test_a_failed_query_leaves_nothing_behind(self, store: SeriesStore) -> None:
        for _ in range(3):
            with pytest.raises(Refused):
                await store.query(ALL, self.failing_sql, {})
            answer = await store.query(ALL, self.select_count, {"metric": "heat"})
            assert answer["n"].to_pylist() == [0]
