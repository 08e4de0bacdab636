"""Transformations: each row is taken once, whatever happens meanwhile, and nothing else is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings, strategies as st
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane.embedded import Engines
from polyplane.errors import Fenced
from polyplane.flow import transform_runner, transforming
from polyplane.flow.transforming import Transforming
from polyplane.model.transformation import form_of
from polyplane.truth import keyset
from polyplane.truth.keyset import page_of
from polyplane.truth.scan import source_of
from polyplane.truth.transforms import TransformJournal
from tests.conftest import PlaneOf
from tests.flow.people import (
    Base,
    Old,
    Older,
    ToPerson,
    application,
    emptied,
    expected,
    fill,
    people,
    plane_in,
)
from tests.flow.things import Killed, becomes, by_hand

STEPS = ("claimed", "read", "written", "noted", "changes_read", "ended")


@pytest.fixture(scope="module")
async def own(
    engines: Engines, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[pp.Plane]:
    """One plane for all tests in here, in which nothing is done but by the test."""
    plane = await plane_in(tmp_path_factory.mktemp("home"), engines, flows=False)
    yield plane
    await plane.close()


@pytest.fixture
async def still(own: pp.Plane) -> pp.Plane:
    """Nothing is in its tables."""
    return await emptied(own)


async def claimed(plane: pp.Plane, kind: Any) -> Transforming:
    """One that this test holds, and whoever held it before does no more."""
    await by_hand(plane, "UPDATE polyplane.transformation SET wake_at = now()")
    truth = plane.opened.truth
    journal = TransformJournal(truth.app)
    [live] = await journal.claim(uuid4(), {kind.name: kind.version}, 1)
    epoch = plane.opened.epoch
    return Transforming(form_of(kind), live, truth.app, truth.projector, lambda: epoch)


async def test_in_place_once_each_and_not_what_comes_later(still: pp.Plane) -> None:
    """It would show if a row were taken twice. What changes behind it is not taken again."""
    await fill(still, 900)
    await by_hand(still, "UPDATE old_person SET age = -1 WHERE id = 5")
    await still.transformations.start(Older)
    work = await claimed(still, Older)
    assert await work.advance()  # the first page
    await by_hand(still, "UPDATE old_person SET age = 40 WHERE id IN (1, 900)")
    await by_hand(still, "INSERT INTO old_person (id, name, age) VALUES (0, '', 50), (999, '', 50)")
    while await work.advance():
        pass
    ages = dict(await by_hand(still, "SELECT id, age FROM old_person"))
    late = {1: 40, 900: 41, 0: 50, 999: 51, 5: -1}
    ages_before = {n: n % 90 for n in range(1, 901)}
    assert ages == {n: age + 1 if age else 0 for n, age in ages_before.items()} | late
    done = await still.transformations.show(Older)
    assert (done.state, done.read, done.dead) == ("done", 901, 1)
    assert await still.transformations.start(Older) == "new"  # nobody could say what is left


async def test_rows_are_locked_in_place(still: pp.Plane) -> None:
    """Whoever changes a row meanwhile is waited for, and what they wrote is what is changed."""
    await fill(still, 3)
    await still.transformations.start(Older)
    work = await claimed(still, Older)
    async with still.write(actor="ada") as tx:
        row = await tx.get(Old, 2, for_update=True)
        assert row is not None
        row.age = 70
        await tx.flush()
        page = asyncio.create_task(work.advance())
        waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        waits += " AND datname = current_database()"
        await becomes(lambda: by_hand(still, waits), [(True,)], within_s=10)
    assert await page
    assert await by_hand(still, "SELECT age FROM old_person ORDER BY id") == [(2,), (71,), (4,)]


async def test_a_dry_run_leaves_nothing(still: pp.Plane) -> None:
    """It finds what would be dead, also by constraints of the target."""
    await fill(still, 600)
    await by_hand(still, "UPDATE old_person SET age = 5000 WHERE id = 77")
    await by_hand(still, "UPDATE old_person SET name = '' WHERE id = 78")
    found = await still.transformations.dry_run(ToPerson)
    assert (found.read, found.would_write, found.would_skip, found.would_die) == (600, 598, 1, 1)
    assert found.is_whole and found.errors[0][0] == "77"
    part = await still.transformations.dry_run(Older, rows=100)
    assert (part.read, part.would_die, part.is_whole) == (100, 0, False)
    assert await people(still) == {} and await still.transformations.dead(ToPerson) == []
    assert (await still.transformations.show(ToPerson)).state == ""
    assert await by_hand(still, "SELECT age FROM old_person WHERE id = 3") == [(3,)]


async def test_stopped_it_goes_on_and_another_version_begins_anew(
    still: pp.Plane, plane_of: PlaneOf
) -> None:
    """Where it was; and what was begun by other code is left to that."""
    ours = still.transformations
    await fill(still, 600)
    assert await ours.start(ToPerson) == "new" and await ours.start(ToPerson) == "joined"
    work = await claimed(still, ToPerson)
    await work.advance()
    assert (await ours.stop(ToPerson)).state == "stopped"
    with pytest.raises(Fenced):
        await work.advance()
    with pytest.raises(pp.Conflict):
        await ours.stop(ToPerson)
    assert await ours.start(ToPerson) == "on"
    assert (await ours.show(ToPerson)).read == transforming.FIRST_ROWS

    class Newer(ToPerson):
        name = "to_person"
        version = 2

    other = await plane_of(applications=[application(Newer)], settings=still.settings, flows=False)
    with pytest.raises(pp.Conflict):
        await other.transformations.start(Newer)
    with pytest.raises(pp.Conflict):
        await other.transformations.retry_dead(Newer)
    assert await TransformJournal(other.opened.database).claim(uuid4(), {"to_person": 2}, 1) == []
    assert await other.transformations.start(Newer, anew=True) == "new"
    with pytest.raises(Fenced):
        await work.advance()
    with pytest.raises(pp.NotFound):
        await ours.show(Newer)
    with pytest.raises(pp.NotFound):
        await ours.show("nothing")


async def test_only_the_later_of_two_holders_writes(still: pp.Plane) -> None:
    """A process that was paused finds its page refused, with all that it wrote."""
    await fill(still, 100)
    await still.transformations.start(Older)
    stale, present = await claimed(still, Older), await claimed(still, Older)
    assert await present.advance()
    with pytest.raises(Fenced):
        await stale.advance()
    while await present.advance():
        pass
    assert (await still.transformations.show(Older)).read == 100
    total = "SELECT sum(age) FROM old_person WHERE id < 90"
    assert await by_hand(still, total) == [(sum(range(1, 90)) + 89,)]


async def test_after_an_epoch_or_a_day_it_begins_with_the_first_row(still: pp.Plane) -> None:
    """What has changed meanwhile could not be told."""
    await fill(still, 600)
    await still.transformations.start(ToPerson)
    await (await claimed(still, ToPerson)).advance()
    for change in ("epoch = epoch - 1", "looked_at = now() - interval '21 hours'"):
        await by_hand(still, f"UPDATE polyplane.transformation SET {change}")
        work = await claimed(still, ToPerson)
        await work.advance()
        assert (await still.transformations.show(ToPerson)).read == 0
        await work.advance()
    while await work.advance():
        pass
    assert await people(still) == await expected(still)
    await by_hand(still, "UPDATE polyplane.transformation SET looked_at = '2000-01-01'")
    assert await still.transformations.start(ToPerson) == "new"


async def test_killed_at_any_step_others_go_on(
    still: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task dies as a process does: nothing is given back; each row is counted once."""
    await fill(still, 300)
    for count, name in enumerate(STEPS, start=1):

        def step(at: str, dies_at: str = f"transform.{name}") -> None:
            if at == dies_at:
                raise Killed

        for kind in (ToPerson, Older):
            await still.transformations.start(kind, anew=True)
            await by_hand(still, "UPDATE old_person SET name = 'New Name' WHERE id = 3")
            with monkeypatch.context() as patched:
                for module in (transforming, transform_runner):
                    patched.setattr(module, "step", step)
                with suppress(Killed):
                    await _to_the_end(await claimed(still, kind))
            with suppress(ValueError):  # it may be done
                await _to_the_end(await claimed(still, kind))
            done = await still.transformations.show(kind)
            assert (done.state, done.read, done.dead) == ("done", 300, 0)
        ages = dict(await by_hand(still, "SELECT id, age FROM old_person"))
        assert ages == {n: n % 90 + count if n % 90 else 0 for n in range(1, 301)}
    await still.transformations.start(ToPerson)
    await _to_the_end(await claimed(still, ToPerson))
    assert await people(still) == await expected(still)


async def _to_the_end(work: Transforming) -> None:
    vars(transform_runner)["step"]("transform.claimed")
    while await work.advance():
        pass


ACTS = ("page", "insert", "update", "delete", "move", "die", "in flight", "commit")


async def test_any_order_of_pages_writes_and_deaths(
    still: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the end the target is what follows from the source, whoever wrote what in between."""
    monkeypatch.setattr(transforming, "FIRST_ROWS", 4)
    monkeypatch.setattr(transforming, "MOST_ROWS", 4)
    loop = asyncio.get_running_loop()
    orders = st.lists(st.sampled_from(ACTS), min_size=5, max_size=25)

    @settings(max_examples=5)
    @given(orders, st.integers(0, 1 << 30))
    def one(acts: list[str], seed: int) -> None:
        asyncio.run_coroutine_threadsafe(_order(still, acts, random.Random(seed)), loop).result(60)

    await asyncio.to_thread(one)


async def _order(plane: pp.Plane, acts: list[str], chance: random.Random) -> None:
    """Act by act; the source has 20 rows to begin with."""
    await by_hand(plane, "TRUNCATE old_person, person")
    await fill(plane, 20)
    await plane.transformations.start(ToPerson, anew=True)
    work = await claimed(plane, ToPerson)
    open_write: Any = None
    changed = 0
    for n, act in enumerate(acts):
        key, other = chance.randrange(-5, 30), 100 + n
        if act == "page":
            if not await work.advance():
                break
            continue
        if act == "die":
            work = await claimed(plane, ToPerson)
            continue
        if act == "in flight" and open_write is None:
            open_write = plane.write(actor="ada")
            tx = await open_write.__aenter__()
            tx.add(Old(id=1_000 + n, name="In Flight"))
            await tx.flush()
        elif act == "commit" and open_write is not None:
            await open_write.__aexit__(None, None, None)
            open_write = None
        elif act == "insert":
            await by_hand(plane, "INSERT INTO old_person VALUES (%s, 'New One', 1)", -other)
        elif act == "update":
            await by_hand(plane, "UPDATE old_person SET name = 'U ' || %s WHERE id = %s", n, key)
        elif act == "delete":
            await by_hand(plane, "DELETE FROM old_person WHERE id = %s", key)
        elif act == "move":
            await by_hand(plane, "UPDATE old_person SET id = %s WHERE id = %s", other, key)
        changed += 1
    if open_write is not None:
        await open_write.__aexit__(None, None, None)
    while await work.advance():
        pass
    if changed:  # what was written when it was done is taken when it runs again
        await plane.transformations.start(ToPerson)
        work = await claimed(plane, ToPerson)
        while await work.advance():
            pass
    assert await people(plane) == await expected(plane)


class Wide(Base):
    """A key of two columns, and room for much."""

    __tablename__ = "wide"
    place: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]


async def test_pages_go_on_behind_the_last_key_and_are_bounded_in_bytes(
    plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows come once, in the order of a key of two columns, odd texts included."""
    monkeypatch.setattr(keyset, "PAGE_BYTES", 1 << 16)
    plane = await plane_of(models=[Wide], flows=False)
    places = ["", "a", "B", "ä", 'say "x"', "{a,b}", "back\\slash", "%s"]
    await by_hand(
        plane,
        "INSERT INTO wide SELECT p, n, CASE WHEN n > 0 THEN 'x' ELSE"
        " (SELECT string_agg(md5(g::text || p), '') FROM generate_series(1, 1500) g) END"
        " FROM unnest(%s::text[]) AS p, generate_series(-1, 60) AS n",
        places,
    )
    source, seen, sizes, after = source_of(Wide), [], [], None
    async with plane.opened.database.connection() as connection:
        while rows := await page_of(connection, source, after, 100):
            seen += [(row.place, row.number) for _, row in rows]
            sizes.append(sum(len(row.body) for _, row in rows))
            after = rows[-1][0]
    assert sorted(seen) == sorted((p, n) for p in places for n in range(-1, 61))
    assert len(seen) == len(set(seen)) == 62 * len(places)
    assert max(sizes) <= (1 << 16) + 1_500 * 32 and len(sizes) > 8
