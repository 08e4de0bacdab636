"""The work on one transformation: pages of rows, then what has changed, then letters to be retried.

Each page is one transaction: what it writes, the letters of its bad rows, and how far it is then.
It may be lost before, and must not be repeated after. Rows are read by who may read all, and
written for their tenants. A row of the source that changes after it was read is found in the
outbox, by the snapshot that was taken before the first one was read, and taken again; in a
transformation in place rows are locked from being read until they are written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Final

from polyplane.errors import PolyplaneError, Unavailable
from polyplane.flow.sifting import FAILURES_MAX, TURN_S, Failures, told
from polyplane.flow.transform_writes import Item, Writes, driver_of
from polyplane.model.table import table_name, table_of
from polyplane.model.transformation import DryRun, Form
from polyplane.steps import step
from polyplane.truth.database import Database, in_our_words
from polyplane.truth.keyset import locked_by_key, page_of
from polyplane.truth.rows import Row
from polyplane.truth.scan import rows_by_key, source_of
from polyplane.truth.session import writing
from polyplane.truth.transforms import Counts, Live, TransformJournal

FIRST_ROWS: Final = 250
MOST_ROWS: Final = 2_000
FEWEST_ROWS: Final = 8
_QUICK_S: Final = 0.25
_SLOW_S: Final = 1.0
_LOOK_EVERY_S: Final = 60.0
"""How often it looks at what has changed while it still takes rows in turn."""
LETTERS_MAX: Final = 100_000
"""Of one transformation: beyond it something is wrong with all of them."""
ERRORS_TOLD: Final = 20


@dataclass(slots=True)
class Batch:
    """What comes of some rows: what is to be written, and the keys of what comes to nothing."""

    items: list[Item] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    bad: Failures = field(default_factory=dict)


@dataclass(slots=True)
class Page:
    """What one transaction of a transformation has written, so far."""

    writes: Writes
    session: Any
    counts: Counts = field(default_factory=Counts)
    bad: Failures = field(default_factory=dict)
    well: list[str] = field(default_factory=list)
    """Keys that are no letters any more, if they were."""

    def count(self, **more: int) -> None:
        """So many rows more."""
        named = {name: getattr(self.counts, name) + n for name, n in more.items()}
        self.counts = replace(self.counts, **named)

    async def put(self, batch: Batch) -> None:
        """Write what was made."""
        bad = await self.writes.put(batch.items)
        self.bad |= batch.bad | bad
        self.count(written=len(batch.items) - len(bad), skipped=len(batch.skipped))
        self.well += [*batch.skipped, *(it.key for it in batch.items if it.key not in bad)]

    async def drop(self, whose: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
        """Delete rows of the target: by tenant, their keys."""
        for tenant, keys in sorted(whose.items()):
            await self.writes.drop(tenant, keys)
            self.count(deleted=len(keys))


class Transforming:
    """Goes on with one transformation that this process holds, page by page."""

    def __init__(
        self,
        form: Form,
        live: Live,
        app: Database,
        projector: Database,
        epoch: Callable[[], int],
    ) -> None:
        self.form = form
        self.live = live
        self._app = app
        self._projector = projector
        self._journal = TransformJournal(app)
        self._epoch = epoch
        self._source = source_of(form.it.source)
        self._target = source_of(form.it.target)
        self._table = table_name(table_of(form.it.source))
        self._limit = FIRST_ROWS
        self._looked = monotonic()
        self._is_late_window = False
        """Of the present window: all rows had been read when it began."""

    async def advance(self) -> bool:
        """One page more; False when all is done.

        Raises Fenced, Unavailable, and PolyplaneError when it can come to nothing.
        """
        live, started = self.live, monotonic()
        if self.form.follows and live.phase != "letters":
            if live.is_old or live.epoch != self._epoch():
                self.live = await self._journal.again(live, self._epoch())
                step("transform.again")
                return True
            if live.phase == "changes" or started - self._looked > _LOOK_EVERY_S:
                await self._changes()
                return True
        if live.phase == "rows":
            await self._rows()
        elif not await self._letters() and await self._journal.end(live):
            step("transform.ended")
            return False
        self._adapt(monotonic() - started)
        return True

    def _adapt(self, took_s: float) -> None:
        """Pages of a size that others need not wait for, and that is seldom done in vain."""
        if took_s < _QUICK_S:
            self._limit = min(MOST_ROWS, self._limit * 2)
        elif took_s > _SLOW_S:
            self._limit = max(FEWEST_ROWS, self._limit // 2)

    async def _rows(self) -> None:
        """The next rows in turn."""
        rows = await self._next(self.live.after)
        if not rows:
            following = "changes" if self.form.follows else "letters"
            async with self._noted(replace(self.live, phase=following)):
                return
        batch = Batch() if self.form.in_place else await self._made(rows)
        async with self._noted(replace(self.live, after=rows[-1][0])) as page:
            page.count(read=len(rows))
            await page.put(await self._in_place(page, rows) if self.form.in_place else batch)
            if len(page.bad) == len(rows) >= FAILURES_MAX:
                error = next(iter(page.bad.values()))
                raise PolyplaneError(
                    f"{self.form.name} comes to nothing with {len(rows)} rows: {told(error)}."
                )

    async def _next(self, after: str | None) -> list[Row]:
        async with self._projector.connection() as connection:
            rows = await page_of(connection, self._source, after, self._limit)
        step("transform.read")
        return rows

    async def _changes(self) -> None:
        """Some of what has changed since the last window.

        With one that began after all rows had been read nothing is missed: whoever changed one
        before that is in it.
        """
        live = self.live
        if live.cur is None:
            self._is_late_window = live.phase == "changes"
        changed = await self._journal.changed(self._projector, self._table, live)
        step("transform.changes_read")
        then = replace(live, cur=changed.cur, upto=changed.upto)
        if changed.is_last:
            phase = "letters" if self._is_late_window else live.phase
            then = replace(live, since=changed.cur, cur=None, upto=0, phase=phase)
            self._looked = monotonic()
        await self._again(changed.keys, then, looked=changed.is_last)

    async def _letters(self) -> bool:
        """Some letters that are to be tried again; False when there are none."""
        keys = await self._journal.due(self.form.name, self._limit)
        if keys:
            await self._again(keys, self.live)
        return bool(keys)

    async def _again(self, keys: Sequence[str], then: Live, *, looked: bool = False) -> None:
        """Take rows again, so many at a time; with the last of them it is how far `then` says."""
        starts = range(0, len(keys), self._limit) or range(1)
        for start in starts:
            some, is_end = keys[start : start + self._limit], start == starts[-1]
            async with self._projector.connection() as connection:
                found = await rows_by_key(connection, self._source, some)
            rows, batch, out = list(found.items()), Batch(), {}
            gone = [key for key in some if key not in found]
            if not self.form.in_place:
                batch = await self._made(rows)
                out = await self._made_of([*gone, *batch.skipped])
            async with self._noted(then if is_end else self.live, looked=looked and is_end) as page:
                page.count(again=len(some))
                await page.put(await self._in_place(page, rows) if self.form.in_place else batch)
                await page.drop(out)
                page.well += gone

    async def _made(self, rows: Sequence[Row]) -> Batch:
        """What becomes of rows; a slow `apply` lets others have their turn."""
        batch, began_s = Batch(), monotonic()
        for key, row in rows:
            try:
                made = self.form.made(row)
            except Exception as error:
                batch.bad[key] = error
            else:
                if made is None:
                    batch.skipped.append(key)
                else:
                    batch.items.append(Item(key, made))
            if monotonic() - began_s > TURN_S:
                await asyncio.sleep(0)
                began_s = monotonic()
        return batch

    async def _in_place(self, page: Page, rows: Sequence[Row]) -> Batch:
        """What becomes of rows as they are now, and stay until they are written."""
        whose: dict[str, list[str]] = {}
        batch, locked = Batch(), dict[str, Any]()
        for key, row in rows:
            try:
                whose.setdefault(self.form.tenant_of(row) or "default", []).append(key)
            except Exception as error:
                batch.bad[key] = error
        for tenant, keys in sorted(whose.items()):
            await page.writes.act_for(tenant)
            locked |= await locked_by_key(await driver_of(page.session), self._source, keys)
        if gone := [key for keys in whose.values() for key in keys if key not in locked]:
            async with self._projector.connection() as connection:
                if await rows_by_key(connection, self._source, gone):
                    raise Unavailable("Rows have gone to another tenant meanwhile.")
        made = await self._made(list(locked.items()))
        made.bad |= batch.bad
        return made

    async def _made_of(self, keys: Sequence[str]) -> dict[str, list[tuple[Any, ...]]]:
        """By tenant, the keys of what was made of rows that are gone, or come to nothing now."""
        whose: dict[str, list[tuple[Any, ...]]] = {}
        if not keys or not self.form.same_key:
            return whose
        async with self._projector.connection() as connection:
            rows = await rows_by_key(connection, self._target, keys)
        attribute = self.form.tenants[1]
        for row in rows.values():
            tenant = getattr(row, attribute) if attribute else "default"
            whose.setdefault(tenant, []).append(tuple(getattr(row, to) for _, to in self.form.keys))
        return whose

    @asynccontextmanager
    async def _noted(self, then: Live, *, looked: bool = False) -> AsyncIterator[Page]:
        """A transaction in which a page is written, that ends with how far it is `then`."""
        with in_our_words():
            async with writing(self._app.engine) as session:
                page = Page(Writes(self.form, session, self.live.actor), session)
                yield page
                await self._note_letters(page)
                step("transform.written")
                await self._journal.note(session, then, page.counts, looked=looked)
                await session.commit()
        step("transform.noted")
        self.live = then

    async def _note_letters(self, page: Page) -> None:
        name = self.form.name
        if page.well:
            await self._journal.unpark(page.session, name, page.well)
        if page.bad:
            letters = await self._journal.park(page.session, name, dict(_told(page.bad)))
            if letters > LETTERS_MAX:
                raise PolyplaneError(
                    f"More than {LETTERS_MAX:,} rows of {name} are bad: it is given up.",
                    fix=f"See: polyplane transform dead list {name}",
                )

    async def rehearse(
        self, rows_max: int | None, progress: Callable[[int], None] | None = None
    ) -> DryRun:
        """Do it with the first `rows_max` rows (None: with all), and leave nothing of it."""
        after, read, counts, is_whole = None, 0, Counts(), False
        errors: list[tuple[str, str]] = []
        dead = 0
        while not is_whole and (rows_max is None or read < rows_max):
            rows = await self._next(after)
            is_whole = not rows
            rows = rows if rows_max is None else rows[: rows_max - read]
            with in_our_words():
                async with writing(self._app.engine) as session:
                    page = Page(Writes(self.form, session, ""), session, counts)
                    in_place = self.form.in_place
                    await page.put(
                        await (self._in_place(page, rows) if in_place else self._made(rows))
                    )
                    await session.rollback()
            counts, dead, read = page.counts, dead + len(page.bad), read + len(rows)
            after = rows[-1][0] if rows else after
            errors += _told(page.bad)[: ERRORS_TOLD - len(errors)]
            if progress is not None:
                progress(read)
        return DryRun(
            self.form.name, read, counts.written, counts.skipped, dead, is_whole, tuple(errors)
        )


def _told(bad: Mapping[str, Exception]) -> list[tuple[str, str]]:
    return [(key, told(error)) for key, error in bad.items()]
