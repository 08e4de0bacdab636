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
from polyplane import transform
from polyplane.embedded import Engines
from polyplane.errors import Fenced, PolyplaneError, Unavailable
from polyplane.flow import transform_runner, transforming
from polyplane.flow.transforming import Transforming
from polyplane.model.transformation import form_of
from polyplane.truth import keyset
from polyplane.truth.keyset import page_of
from polyplane.truth.scan import source_of
from polyplane.truth.transforms import TransformJournal
from tests.conftest import PlaneOf, settings_in
from tests.flow.people import (
    Base,
    ByColumn,
    CardSearch,
    Old,
    Older,
    Renamed,
    ToCard,
    ToPerson,
    application,
)
from tests.flow.things import Killed, becomes, by_hand

EVERY = (ToPerson, ByColumn, Older, ToCard, Renamed)
STEPS = ("claimed", "read", "written", "noted", "changes_read", "ended")


@pytest.fixture(scope="module")
async def own(
    engines: Engines, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[bool, pp.Plane]]:
    """Two planes for all tests in here, each with a database of its own: by whether data flows."""
    planes = {}
    for flows in (True, False):
        settings = await settings_in(tmp_path_factory.mktemp("home"), engines, "")
        declared = application(*EVERY, projections=[CardSearch] if flows else [])
        planes[flows] = pp.Plane(settings=settings, applications=[declared], flows=flows)
        await planes[flows].open()
    yield planes
    for plane in planes.values():
        await plane.close()


async def emptied(plane: pp.Plane) -> pp.Plane:
    """Nothing is in its tables."""
    await by_hand(
        plane,
        "TRUNCATE old_person, person, badge, card, polyplane.transformation,"
        " polyplane.transformation_dead",
    )
    return plane


@pytest.fixture
async def plane(own: dict[bool, pp.Plane]) -> pp.Plane:
    """One that does transformations."""
    return await emptied(own[True])


@pytest.fixture
async def still(own: dict[bool, pp.Plane]) -> pp.Plane:
    """One in which nothing is done but by the test."""
    return await emptied(own[False])


async def fill(plane: pp.Plane, rows: int, first: int = 1) -> None:
    """People numbered from `first` on."""
    await by_hand(
        plane,
        "INSERT INTO old_person (id, name, age)"
        " SELECT n, 'Ada Lovelace ' || n, n %% 90 FROM generate_series(%s::int, %s::int) AS n",
        first,
        first + rows - 1,
    )


async def people(plane: pp.Plane) -> dict[int, tuple[Any, ...]]:
    """The target as it is, past the plane."""
    found = await by_hand(plane, "SELECT id, first, last, age, notes::text FROM person")
    return {row[0]: row[1:] for row in found}


async def expected(plane: pp.Plane) -> dict[int, tuple[Any, ...]]:
    """What is to become of the source as it is, by another's reckoning."""
    found = await by_hand(
        plane,
        "SELECT id, split_part(name, ' ', 1), substr(name, strpos(name, ' ') + 1), age, notes::text"
        " FROM old_person WHERE strpos(name, ' ') > 0 AND age < 1000",
    )
    return {row[0]: row[1:] for row in found}


async def claimed(plane: pp.Plane, kind: Any) -> Transforming:
    """One that this test holds, and whoever held it before does no more."""
    await by_hand(plane, "UPDATE polyplane.transformation SET wake_at = now()")
    truth = plane.opened.truth
    journal = TransformJournal(truth.app)
    [live] = await journal.claim(uuid4(), {kind.name: kind.version}, 1)
    epoch = plane.opened.epoch
    return Transforming(form_of(kind), live, truth.app, truth.projector, lambda: epoch)


async def test_all_rows_are_taken_and_what_follows_from_them_follows(plane: pp.Plane) -> None:
    """Good ones are written, bad ones are letters; derived stores hear of it as of any write."""
    await fill(plane, 1_500)
    await by_hand(
        plane,
        "INSERT INTO old_person (id, name, age, notes) VALUES (-1, '', 1, NULL),"
        " (-2, 'Plato', 1, NULL), (-3, 'Methuselah the Old', 1969, NULL),"
        " (-4, 'Grace Hopper', 85, '{\"navy\": true}')",
    )
    told: list[transform.TransformationRecord] = []
    done = await plane.transformations.run(ToPerson, progress=told.append)
    assert (done.state, done.read, done.written) == ("done", 1_504, 1_501)
    assert (done.skipped, done.dead, done.again, done.deleted) == (1, 2, 0, 0)
    assert await people(plane) == await expected(plane)
    await plane.caught_up()
    assert await plane[CardSearch].get(-4) == "Grace Hopper"
    assert (await plane.verify()).clean
    letters = await plane.transformations.dead(ToPerson)
    assert [(it.key, it.attempts) for it in letters] == [("-2", 1), ("-3", 1)]
    assert letters[0].error.startswith("ValueError in apply (people.py:")
    assert letters[1].error.startswith("Refused in ") and "Methuselah" not in letters[1].error


async def test_letters_are_tried_again_shown_and_dropped(plane: pp.Plane) -> None:
    """What works by now leaves the list, what does not stays in it."""
    await by_hand(
        plane,
        "INSERT INTO old_person (id, name) VALUES (1, 'Plato'), (2, 'Kant'), (3, 'Zeno'),"
        " (4, 'Hegel'), (5, 'Karl Marx')",
    )
    ours = plane.transformations
    assert (await ours.run(ToPerson)).dead == 4
    await by_hand(plane, "UPDATE old_person SET name = name || ' I' WHERE id < 3")
    await by_hand(plane, "DELETE FROM old_person WHERE id = 3")
    assert await ours.retry_dead(ToPerson, ["1", "3", "4", "999"]) == 3
    done = await ours.finished(ToPerson, timeout_s=30)
    assert (done.state, done.dead) == ("done", 2)
    assert [(it.key, it.attempts) for it in await ours.dead(ToPerson)] == [("2", 1), ("4", 2)]
    assert sorted(await people(plane)) == [1, 5]
    done = await ours.run(ToPerson)  # what has changed since: 2 is well, too
    assert (done.dead, sorted(await people(plane))) == (1, [1, 2, 5])
    assert await ours.drop_dead(ToPerson) == 1 and await ours.dead(ToPerson) == []


async def test_by_columns_and_again(plane: pp.Plane) -> None:
    """As the seed has it; done again it takes only what has changed, or all of it."""
    await fill(plane, 300)
    await plane.transformations.run(ByColumn)
    assert (await people(plane))[7] == ("Ada Lovelace 7", "ADA LOVELACE 7", 7, None)
    await by_hand(plane, "UPDATE old_person SET name = 'x', id = -id WHERE id = 7")
    await by_hand(plane, "DELETE FROM old_person WHERE id = 8")
    await by_hand(plane, "UPDATE person SET last = 'by hand' WHERE id = 9")
    assert await plane.transformations.start(ByColumn) == "on"
    done = await plane.transformations.finished(ByColumn, timeout_s=30)
    assert (done.read, done.again, done.deleted) == (300, 3, 2)
    found = await people(plane)
    assert found[-7][0] == "x" and not {7, 8} & found.keys() and found[9][1] == "by hand"
    done = await plane.transformations.run(ByColumn, anew=True)
    assert (done.read, done.again, done.written) == (299, 0, 299)
    assert (await people(plane))[9][1] == "ADA LOVELACE 9"


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


async def test_tenants_get_what_is_theirs(plane: pp.Plane) -> None:
    """Rows stay with their tenant, which nobody else's row can take over."""
    await by_hand(
        plane,
        "INSERT INTO badge (tenant_id, person) SELECT t, p FROM unnest(ARRAY['a', 'b']) AS t,"
        " unnest(ARRAY['ada', 'bob']) AS p WHERE t || p <> 'bbob'",
    )
    await by_hand(plane, "INSERT INTO badge (tenant_id, person) VALUES ('b', 'thief')")
    done = await plane.transformations.run(ToCard, actor="ops")
    assert (done.written, done.dead) == (2, 2)  # one "ada" only, and no thief
    cards = await by_hand(plane, "SELECT number, tenant_id FROM card ORDER BY 1")
    assert cards in ([("ada", "a"), ("bob", "a")], [("ada", "b"), ("bob", "a")])
    assert (await plane.transformations.run(Renamed)).written == 4
    badges = await by_hand(plane, "SELECT tenant_id, person FROM badge ORDER BY 1, 2")
    assert badges == [("a", "ADA"), ("a", "BOB"), ("b", "ADA"), ("b", "THIEF")]
    lines = await by_hand(
        plane,
        "SELECT DISTINCT tenant, actor, resource_type FROM polyplane.audit"
        " WHERE starts_with(action, 'rows.') ORDER BY 3, 1",
    )
    assert ("a", "ops", "public.card") in lines
    assert ("b", "transformation:renamed", "public.badge") in lines


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


async def test_what_works_for_none_fails_and_goes_on_when_it_is_mended(plane: pp.Plane) -> None:
    """A fault of the code is not left in thousands of letters."""
    await fill(plane, 500)
    await by_hand(plane, "ALTER TABLE person ADD CONSTRAINT odd CHECK (first = 'Bob')")
    with pytest.raises(PolyplaneError, match="works for none") as failed:
        await plane.transformations.run(ToPerson)
    assert "transform run to_person" in failed.value.fix
    record = await plane.transformations.show(ToPerson)
    assert (record.state, record.read, record.dead) == ("failed", 0, 0)
    await by_hand(plane, "ALTER TABLE person DROP CONSTRAINT odd")
    assert (await plane.transformations.run(ToPerson)).written == 500


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


async def test_it_waits_for_truth_and_goes_on(
    plane: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of PostgreSQL is no row's."""
    faults = iter([Unavailable("It is down."), TimeoutError(), OSError("Broken.")])

    def step(name: str) -> None:
        if name == "transform.written" and (fault := next(faults, None)):
            raise fault

    monkeypatch.setattr(transforming, "step", step)
    monkeypatch.setattr(transform_runner, "_FIRST_WAIT_S", 0.01)
    await fill(plane, 300)
    done = await plane.transformations.run(ToPerson, timeout_s=60)
    assert (done.state, done.read, done.dead, next(faults, None)) == ("done", 300, 0, None)
    assert await people(plane) == await expected(plane)


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
    transform_runner.step("transform.claimed")
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
