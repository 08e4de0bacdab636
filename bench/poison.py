"""(i) 10,000 rows change at once, and one of them is bad: how soon the others are in LanceDB."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Final

import polyplane as pp
from bench.documents import Document, DocumentSearch, filled_database
from bench.figures import Figure
from bench.ground import Connection, Ground, Size, connect

ROWS: Final = 10_000
TIMES_MAX: Final = 1.2
POISON: Final = {"derive": "no vector", "store": "no text"}


class FussySearch(pp.Vectors[Document]):
    """Documents, but for those with a poison's title: no vector, or a tag of another type."""

    dimensions = DocumentSearch.dimensions

    def derive(self, document: Document, /) -> pp.Vector | None:
        """As `DocumentSearch`."""
        vector = DocumentSearch().derive(document)
        if document.title == POISON["derive"]:
            raise ValueError(document.title)
        if vector is None or document.title != POISON["store"]:
            return vector
        return pp.Vector(vector.text, vector.tags | {"title": 1}, vector.embedding)


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """In turn: all rows good, one that `derive` cannot take, one that the store cannot."""
    url = await filled_database(ground, ROWS)
    took: dict[str, list[float]] = {"": [], **{kind: [] for kind in POISON}}
    async with (
        ground.plane(url, models=[Document], projections=[FussySearch]) as plane,
        await connect(url) as connection,
    ):
        await plane.caught_up(timeout_s=120)
        await _changed(plane, connection, "")  # once, so that no run is the first
        for _ in range(size.runs):
            for kind, runs in took.items():
                await ground.calm()
                runs.append(await _changed(plane, connection, POISON.get(kind, "")))
                parked = await plane.opened.journal.dead.counts()
                assert sum(parked.values()) == bool(kind), parked
                await connection.execute(
                    "UPDATE document SET title = 't' WHERE title = ANY (%s)",
                    [list(POISON.values())],
                )
                await plane.caught_up()
                drift = await plane.verify()
                assert drift.clean and drift.parts[0].items == ROWS, drift
    good = Figure("without a bad row", "s", tuple(took[""]))
    figures = [good]
    for kind in POISON:
        bad = tuple(took[kind])
        figures.append(Figure(f"with one that {kind} cannot take", "s", bad))
        times = tuple(a / b for a, b in zip(bad, good.runs, strict=True))
        figures.append(Figure(f"{kind}: with / without", "ratio", times, TIMES_MAX, at_most=True))
    return figures


async def _changed(plane: pp.Plane, connection: Connection, poison: str) -> float:
    """Seconds from the change of all rows, one of them by `poison`, until it is applied."""
    started = perf_counter()
    await connection.execute(
        "UPDATE document SET body = md5(body || %s), title = CASE WHEN %s <> '' AND id = ("
        "SELECT id FROM document OFFSET 5000 LIMIT 1) THEN %s ELSE title END",
        [str(started), poison, poison],
    )
    await plane.caught_up(timeout_s=120)
    return perf_counter() - started
