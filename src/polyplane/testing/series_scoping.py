"""What series stores show to whom; `SeriesStoreContract` inherits it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from polyplane.errors import Forbidden
from polyplane.model.scope import Scope
from polyplane.stores.protocol import SeriesStore
from polyplane.testing.readings import Reading, Row, newest, readings, rows, table, windows
from polyplane.testing.samples import ALL, HOSTILE
from polyplane.testing.series_reading import SeriesReadingContract

TENANTS = ("acme", "ACME", "", None)


class Owned(Reading):
    """As `Reading`, of tenants. A point may be nobody's, as one from before there were tenants."""

    name = "owned"
    order_by: ClassVar[tuple[str, ...]] = ("run", "metric")
    indexes: ClassVar[tuple[str, ...]] = ("note", "level", "owner", "tenant")
    tenant_column = "tenant"

    tenant: str | None


def owned(n: int, tenants: tuple[str | None, ...] = TENANTS) -> Any:
    """`n` points, one after the other of each tenant."""
    columns: Row = readings(n) | {"tenant": [tenants[i % len(tenants)] for i in range(n)]}
    return table("b", columns, Owned)


class SeriesScopingContract(SeriesReadingContract):
    """No reading verb shows, or counts, what its scope does not see."""

    async def test_a_scope_is_shown_its_points(self, store: SeriesStore) -> None:
        await store.prepare(Owned)
        points = owned(80)
        await store.append(Owned, points, token="b")
        for tenant in (*TENANTS[:3], "nobody"):
            mine, scope = [it for it in rows(points) if it["tenant"] == tenant], Scope(tenant)
            where: Row = {"value": 0.0} if tenant == "acme" else {}
            mine = [it for it in mine if all(it[n] == v for n, v in where.items())]
            count = await store.count(Owned, scope, where)
            assert count.points == len(mine)
            assert set(count.tenants) == ({tenant} if mine else set())
            window = await store.window(Owned, scope, value="value", bucket_s=9, where=where)
            expected = windows(mine, "value", 9)
            assert window["count"].to_pylist() == [it["count"] for it in expected]
            for name in ("tenant_min", "tenant_max"):
                assert set(window[name].to_pylist()) == ({tenant} if mine else set())
            latest = await store.latest(Owned, scope, by="metric", where=where)
            assert {it["metric"]: it for it in latest.to_pylist()} == newest(mine, "metric")

    async def test_everything_is_told_whose_it_is(self, store: SeriesStore) -> None:
        await store.prepare(Owned)
        await store.append(Owned, owned(80, ("acme", "other")), token="b")
        count = await store.count(Owned, ALL)
        assert (count.points, set(count.tenants)) == (80, {"acme", "other"})
        window = await store.window(Owned, ALL, value="value", bucket_s=3_600, where={})
        assert set(window["tenant_min"].to_pylist()) == {"acme"}
        assert set(window["tenant_max"].to_pylist()) == {"other"}

    async def test_what_belongs_to_nobody_is_everybodys(self, store: SeriesStore) -> None:
        await store.append(Reading, table("b", readings(10)), token="b")
        assert await store.count(Reading, Scope("acme")) == (10, ())
        answer = await store.window(Reading, Scope("acme"), value="value", bucket_s=60, where={})
        assert answer.column_names == ["bucket", "avg", "min", "max", "count"]

    async def test_hostile_tenants_are_only_names(self, store: SeriesStore) -> None:
        await store.prepare(Owned)
        await store.append(Owned, owned(len(HOSTILE), tuple(HOSTILE)), token="b")
        for text in HOSTILE:
            assert await store.count(Owned, Scope(text)) == (1, (text,))

    async def test_a_free_query_is_not_for_callers(self, store: SeriesStore) -> None:
        with pytest.raises(Forbidden):
            await store.query(Scope("acme"), self.select_count, {"metric": "heat"})
