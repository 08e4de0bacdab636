"""(rls) What row security costs a query by an index: the same one with its policy and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Final

import psycopg
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from bench.figures import Figure, ratio
from bench.ground import Ground, Size, execute
from polyplane import marks

ROWS: Final = 100_000
TENANTS: Final = 100
QUERIES: Final = 4_000
"""In a run, half of them on each table, in short slices by turns."""
SLICE: Final = 50
REQUIRED: Final = 1.15


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Guarded(Base):
    """Rows of tenants."""

    __tablename__ = "guarded"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[str] = marks.tenant()
    body: Mapped[str]


class Open(Base):
    """The same, and nobody's."""

    __tablename__ = "open"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[str]
    body: Mapped[str]


QUERIES_BY: Final = {
    "one row by its key": "SELECT body FROM {} WHERE tenant_id = %s AND id = %s",
    "a page of fifty": (
        "SELECT id, body FROM {} WHERE tenant_id = %s AND id >= %s ORDER BY id LIMIT 50"
    ),
}


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Each inside BEGIN, set_config and COMMIT, as the application's own login."""
    url = await ground.database()
    found: list[Figure] = []
    async with ground.plane(url, flows=False, models=[Guarded, Open]):
        for table in ("guarded", "open"):
            await execute(
                url,
                [
                    f"INSERT INTO {table} (id, tenant_id, body)"
                    f" SELECT n, 't' || n % {TENANTS}, repeat('x', 200)"
                    f" FROM generate_series(1, {ROWS}) n",
                    f"CREATE INDEX ON {table} (tenant_id, id)",
                    f"GRANT SELECT ON {table} TO polyplane_app",
                    f"VACUUM ANALYZE {table}",
                ],
            )
        app = ground.login("app", url)
        for name, query in QUERIES_BY.items():
            runs: dict[str, list[float]] = {"guarded": [], "open": []}
            for _ in range(size.runs):
                for table, took in (await _by_turns(app, query, size.scaled(QUERIES))).items():
                    runs[table].append(took)
            without = Figure(f"{name}, without a policy", "us", tuple(runs["open"]))
            with_it = Figure(f"{name}, with it", "us", tuple(runs["guarded"]))
            price = ratio(f"{name}, with / without it", with_it, without, required=REQUIRED)
            price = replace(price, at_most=True)
            found += [without, with_it, price]
    return found


async def _by_turns(url: str, query: str, count: int) -> dict[str, float]:
    """The median microseconds of a transaction on each table."""
    seen: dict[str, list[float]] = {"guarded": [], "open": []}
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for n in range(0, count, 2 * SLICE):
            for table, times in seen.items():
                for k in range(SLICE):
                    number = (n + k) * 37 % ROWS + 1
                    tenant = f"t{number % TENANTS}"
                    began = perf_counter()
                    await connection.execute(
                        "SELECT set_config('polyplane.tenant', %s, true),"
                        " set_config('polyplane.sees_all', 'on', true)",
                        [tenant],
                    )
                    asked = query.format(table).encode()
                    cursor = await connection.execute(asked, [tenant, number])
                    rows = await cursor.fetchall()
                    await connection.commit()
                    times.append((perf_counter() - began) * 1e6)
                    assert rows, (table, number)
    return {table: median(times) for table, times in seen.items()}
