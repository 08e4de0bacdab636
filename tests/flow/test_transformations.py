"""Transformations: what becomes of rows, of bad ones, and how people see to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from httpx import AsyncClient
from typer.testing import CliRunner

import polyplane as pp
from polyplane import transform
from polyplane.embedded import Engines
from polyplane.errors import PolyplaneError, Unavailable
from polyplane.flow import transform_runner, transforming
from polyplane.ops.metrics import Metrics
from polyplane.serve.api.figures import samples
from polyplane.serve.cli import acting, transform as commands
from polyplane.serve.cli.remote import error_of
from polyplane.serve.token import ops_token
from tests.flow.people import (
    ByColumn,
    CardSearch,
    CopyKinds,
    Renamed,
    ToCard,
    ToPerson,
    emptied,
    expected,
    fill,
    people,
    plane_in,
)
from tests.flow.things import ODD, becomes, by_hand

OPS = "/api/v1/ops/transformations"


@pytest.fixture(scope="module")
async def own(
    engines: Engines, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[pp.Plane]:
    """One plane for all tests in here, which does transformations."""
    plane = await plane_in(tmp_path_factory.mktemp("home"), engines, flows=True)
    yield plane
    await plane.close()


@pytest.fixture
async def plane(own: pp.Plane) -> pp.Plane:
    """Nothing is in its tables."""
    return await emptied(own)


class Through:
    """The way to a plane of this process, as `Remote` is to an `up`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()

    def call(self, method: str, path: str, parameters: Any = None, **given: Any) -> Any:
        """From another thread."""
        asked = self._client.request(method, f"/api/v1/{path}", params=parameters, **given)
        answer = asyncio.run_coroutine_threadsafe(asked, self._loop).result(60)
        if answer.is_error:
            raise error_of(answer)
        return answer.json()


async def test_an_operator_runs_looks_stops_and_mends(
    plane: pp.Plane,
    client_of: Callable[[pp.Plane], AsyncClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By routes, and by commands; each act is in audit."""
    await by_hand(
        plane,
        "INSERT INTO old_person (id, name) SELECT n, 'Ada ' || n FROM generate_series(1, 300) n",
    )
    await by_hand(plane, "UPDATE old_person SET name = 'Plato' WHERE id IN (7, 8)")
    client = client_of(plane)
    assert (await client.get(OPS)).status_code == 401
    client.headers["Authorization"] = f"Bearer {ops_token(plane.settings.home)}"
    assert (await client.get(f"{OPS}/nothing")).status_code == 404
    assert (await client.post(f"{OPS}/to_person/stop")).status_code == 409
    assert (await client.get(f"{OPS}/to_person/dead", params={"limit": 0})).status_code == 422
    through = Through(client)
    monkeypatch.setattr(acting, "find_running", lambda settings: through)
    runner, home = CliRunner(), str(plane.settings.home)

    async def command(*words: str, code: int = 0) -> Any:
        asked = [*words, "--json", "--home", home]
        done = await asyncio.to_thread(runner.invoke, commands.app, asked)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout.splitlines()[-1])["data"]  # logs come before it

    [known, *_] = (await command("list"))["transformations"]
    assert (known["name"], known["state"], known["target"]) == ("to_person", "", "public.person")
    dry = await command("run", "to_person", "--dry-run", "--rows", "10")
    assert (dry["read"], dry["would_write"], dry["would_die"]) == (10, 8, 2)
    assert [key for key, _ in dry["errors"]] == ["7", "8"]
    done = await command("run", "to_person")
    assert (done["state"], done["written"], done["dead"]) == ("done", 298, 2)
    assert (await command("status", "to_person")) == done
    letters = (await command("dead", "list", "to_person", "--limit", "1"))["letters"]
    assert [it["key"] for it in letters] == ["7"]
    letters = (await command("dead", "list", "to_person", "--after", "7"))["letters"]
    assert [it["key"] for it in letters] == ["8"]
    assert (await command("dead", "show", "to_person", "8"))["attempts"] == 1
    await command("dead", "show", "to_person", "9", code=3)
    await by_hand(plane, "UPDATE old_person SET name = 'Plato II' WHERE id = 8")
    tried = await command("dead", "retry", "to_person")
    assert (tried["rows"], tried["dead"], tried["state"]) == (2, 1, "done")
    await command("dead", "drop", "to_person", code=3)
    assert (await command("dead", "drop", "to_person", "--yes"))["rows"] == 1
    await command("stop", "to_person", code=3)
    await command("run", "nothing", code=3)
    acts = await by_hand(
        plane,
        "SELECT DISTINCT action FROM polyplane.audit WHERE starts_with(action, 'transformation.')",
    )
    wanted = {"run", "stop", "retry", "drop"}
    assert {it for (it,) in acts} >= {f"transformation.{verb}" for verb in wanted}
    shown = await asyncio.to_thread(runner.invoke, commands.app, ["list", "--home", home])
    assert "to_person" in shown.stdout and "Next: " in shown.stdout


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
    await by_hand(plane, "DELETE FROM old_person WHERE id = 10")  # after it was done
    done = await plane.transformations.run(ByColumn, anew=True)
    assert (done.read, done.again, done.written, done.deleted) == (298, 1, 298, 1)
    found = await people(plane)
    assert found[9][1] == "ADA LOVELACE 9" and 10 not in found


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


async def test_what_works_for_none_fails_and_goes_on_when_it_is_mended(plane: pp.Plane) -> None:
    """A fault of the code is not left in thousands of letters."""
    await fill(plane, 500)
    await by_hand(plane, "ALTER TABLE person ADD CONSTRAINT odd CHECK (first = 'Bob')")
    with pytest.raises(PolyplaneError, match="works for none") as failed:
        await plane.transformations.run(ToPerson)
    assert "transform run to_person" in failed.value.fix
    record = await plane.transformations.show(ToPerson)
    assert (record.state, record.read, record.dead) == ("failed", 0, 0)
    health = await plane.health()
    [stuck] = [it for it in health.work if it.what == "transformation to_person"]
    assert (health.status, stuck.state) == ("degraded", "stuck")
    assert "works for none" in stuck.detail and "transform run to_person" in stuck.detail
    await by_hand(plane, "ALTER TABLE person DROP CONSTRAINT odd")
    assert (await plane.transformations.run(ToPerson)).written == 500
    assert not [it for it in (await plane.health()).work if it.what == stuck.what]
    page = Metrics().render(await samples(plane)).decode()
    for line in (
        'polyplane_transformation{state="done",transformation="to_person"} 1.0',
        'polyplane_transformation{state="failed",transformation="to_person"} 0.0',
        'polyplane_transformation_rows{transformation="to_person",what="written"} 500.0',
    ):
        assert line in page


async def test_it_waits_for_truth_and_goes_on(
    plane: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of PostgreSQL is no row's."""
    faults = [Unavailable("It is down."), TimeoutError(), OSError("Broken.")]
    raised: list[Exception] = []
    is_up = False

    def step(name: str) -> None:
        if name == "transform.written" and not is_up:
            raised.append(faults[len(raised) % 3])
            raise raised[-1]

    async def seen() -> tuple[list[str], bool]:
        work = [it for it in (await plane.health()).work if it.what == "transformation to_person"]
        return [it.state for it in work], len(raised) >= 3

    monkeypatch.setattr(transforming, "step", step)
    monkeypatch.setattr(transform_runner, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(transform_runner, "_LAST_WAIT_S", 0.05)
    await fill(plane, 300)
    await plane.transformations.start(ToPerson)
    await becomes(seen, (["waiting"], True), within_s=60)
    is_up = True
    done = await plane.transformations.finished(ToPerson, timeout_s=60)
    assert (done.state, done.read, done.dead) == ("done", 300, 0)
    assert await people(plane) == await expected(plane)


async def test_values_of_plain_types_are_what_they_were(plane: pp.Plane) -> None:
    """Odd texts, NULLs, the ends of ranges; and what is too long is not cut, but dead."""
    await by_hand(plane, "TRUNCATE kinds_now, kinds_then")
    await by_hand(
        plane, "INSERT INTO kinds_now (text, yes) SELECT t, true FROM unnest(%s::text[]) AS t", ODD
    )
    await by_hand(
        plane,
        "INSERT INTO kinds_now (text, number, yes, at, local, day, real, exact) VALUES"
        " (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),"
        " ('a', -9223372036854775808, false, '2026-03-29 02:30:00.000001+02', '0001-01-01',"
        "  '9999-12-31', 'NaN', 1234567890123456.7891),"
        " ('b', 0, true, '1900-01-01', now(), now(), '-infinity', 'NaN'),"
        " ('c', 1, true, NULL, NULL, NULL, 1e-308, -0.0001), ('this is too long', 1, true, NULL,"
        "  NULL, NULL, NULL, NULL), ('d', 1, true, 'infinity', NULL, NULL, NULL, NULL)",
    )
    done = await plane.transformations.run(CopyKinds)
    assert (done.dead, done.written) == (2, len(ODD) + 4)
    lost = "SELECT text FROM (SELECT * FROM kinds_now EXCEPT SELECT * FROM kinds_then) d ORDER BY 1"
    assert await by_hand(plane, lost) == [("d",), ("this is too long",)]
