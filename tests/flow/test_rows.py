"""Whose a row is, PostgreSQL itself knows: nobody sees or writes another tenant's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

import polyplane as pp
from polyplane.domains import agents, laboratory
from polyplane.embedded import Engines
from polyplane.errors import Forbidden, Misconfigured
from polyplane.model.table import table_name, table_of
from polyplane.security.grants import APP, AUDIT, PROJECTOR, RELAY
from polyplane.security.logins import Logins
from polyplane.security.policies import guarded
from polyplane.truth import session
from polyplane.truth.database import Database
from polyplane.truth.guarding import check, install_policies
from tests.conftest import PlaneOf
from tests.flow.owned import (
    ADA,
    BOB,
    Letter,
    LetterSearch,
    Posting,
    Stamp,
    StampEntry,
    apart,
    seen,
)
from tests.flow.things import by_hand

MODELS = [Letter, Stamp]


@pytest.fixture
def settings(own_settings: pp.Settings, engines: Engines) -> pp.Settings:
    """Every kind of work has a login of its own."""
    return apart(own_settings, engines)


def url_of(settings: pp.Settings, login: str = "app") -> str:
    """Where a login connects."""
    return settings.url(f"database_{login}_url") or ""


def database_of(settings: pp.Settings, name: str) -> Database:
    """A pool for the login of a setting."""
    return Database(settings.url(name) or "")


async def post(plane: pp.Plane, tenant: str, *bodies: str, caller: pp.Caller | None = None) -> None:
    """Letters of a tenant."""
    caller = caller or pp.Caller("somebody", tenant)
    async with session.write(plane.opened.database, caller=caller, epoch=1) as tx:
        tx.add_all([Letter(tenant_id=tenant, owner_id=caller.user, body=body) for body in bodies])


async def bodies(plane: pp.Plane, caller: pp.Caller) -> list[str]:
    """The letters that a caller sees."""
    async with session.read(plane.opened.database, caller=caller) as reading:
        return sorted((await reading.scalars(sa.select(Letter.body))).all())


async def test_a_tenant_sees_and_writes_its_own_alone(
    plane_of: PlaneOf, settings: pp.Settings
) -> None:
    """Whatever the query asks for."""
    plane = await plane_of(settings=settings, models=MODELS, flows=False)
    await post(plane, "a", "one", "two")
    await post(plane, "b", "three")
    assert await bodies(plane, pp.Caller("x", "a")) == ["one", "two"]
    assert await bodies(plane, pp.Caller("x", "b")) == ["three"]
    assert await bodies(plane, pp.Caller("x", "c")) == []
    async with plane.write(actor="x", tenant="b") as tx:
        changed = sa.update(Letter).values(body="mine").returning(Letter.tenant_id)
        assert (await tx.scalars(changed)).all() == ["b"]
        gone = sa.delete(Letter).where(Letter.tenant_id == "a").returning(Letter.id)
        assert (await tx.scalars(gone)).all() == []
    with pytest.raises(Forbidden):
        await post(plane, "a", "x", caller=pp.Caller("x", "b"))
    with pytest.raises(Forbidden):
        async with plane.write(actor="x", tenant="b") as tx:
            await tx.execute(sa.update(Letter).values(tenant_id="a"))
    assert await bodies(plane, pp.Caller("x", "a")) == ["one", "two"]


async def test_a_user_sees_and_writes_their_own_within_it(
    plane_of: PlaneOf, settings: pp.Settings
) -> None:
    """And what is nobody's; a program, and who may see all, see all."""
    plane = await plane_of(settings=settings, models=MODELS, flows=False)
    ada, bob = pp.Caller("ada", "a", ADA), pp.Caller("bob", "a", BOB)
    await post(plane, "a", "everybody's")
    await post(plane, "a", "ada's", caller=ada)
    await post(plane, "a", "bob's", caller=bob)
    assert await bodies(plane, ada) == ["ada's", "everybody's"]
    assert await bodies(plane, bob) == ["bob's", "everybody's"]
    everything = ["ada's", "bob's", "everybody's"]
    assert await bodies(plane, pp.Caller("root", "a", ADA, frozenset({"rows.all"}))) == everything
    assert await bodies(plane, pp.Caller("program", "a")) == everything
    with pytest.raises(Forbidden):
        async with session.write(plane.opened.database, caller=bob, epoch=1) as tx:
            tx.add(Letter(tenant_id="a", owner_id=ADA, body="forged"))


MARKED = [*MODELS, *laboratory.application.models, *agents.application.models]


async def test_no_marked_table_shows_or_takes_what_is_not_a_callers(
    plane_of: PlaneOf, settings: pp.Settings
) -> None:
    """The raw login of the application, past all our code, on every table there is."""
    rows_alone = replace(agents.application, projections=(), follows=(), topics=())
    applications = [laboratory.application, rows_alone]
    await plane_of(settings=settings, models=MODELS, applications=applications, flows=False)
    for tenant in ("a", "b"):
        await _one_row_each(settings.url("database_url") or "", tenant)
    owner = settings.url("database_url") or ""
    for name in (table_name(table_of(model)) for model in MARKED):
        assert await seen(owner, name, None) == ["a", "b"], name
        assert await seen(owner, name, "a") == ["a"], name
        for login in ("projector", "backup"):
            assert await seen(url_of(settings, login), name, None) == ["a", "b"], name
        app = url_of(settings)
        assert await seen(app, name, None) == [], name
        assert await seen(app, name, "") == [], name
        assert await seen(app, name, "a") == ["a"], name
        assert await seen(app, name, "b") == ["b"], name
        assert await seen(app, name, "a", user=str(ADA), sees_all="") in ([], ["a"]), name
        await _refuses_to_write(app, name)
        for login in ("relay", "audit"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await seen(url_of(settings, login), name, "a")


async def _one_row_each(url: str, tenant: str) -> None:
    """One row of `tenant` in every marked table."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        one, lab = 1 if tenant == "a" else 2, sql.Identifier("laboratory")
        owned = [
            "INSERT INTO letter (id, tenant_id, body) VALUES (%(n)s, %(t)s, 'x')",
            "INSERT INTO stamp (id, tenant_id) VALUES (%(n)s, %(t)s)",
            "INSERT INTO {l}.users (id, tenant_id, name, email) VALUES (%(u)s, %(t)s, 'x', 'x@y')",
            "INSERT INTO {l}.experiments (id, tenant_id, name, hypothesis)"
            " VALUES (%(u)s, %(t)s, 'x', 'y')",
            "INSERT INTO {l}.materials (id, tenant_id, name, type) VALUES (%(u)s, %(t)s, 'x', 'y')",
            "INSERT INTO {l}.experiment_materials (experiment_id, material_id, tenant_id)"
            " VALUES (%(u)s, %(u)s, %(t)s)",
            "INSERT INTO {l}.activity_correlations (experiment_id, tenant_id, work_order_id,"
            " activity_id, controller_id, activity_name) VALUES (%(u)s, %(t)s, 'x', 'x', 'x', 'x')",
            "INSERT INTO {l}.learnings (experiment_id, tenant_id, type, insight, confidence)"
            " VALUES (%(u)s, %(t)s, 'process', 'x', 1)",
            "INSERT INTO {a}.agents (id, tenant_id, name, type) VALUES (%(u)s, %(t)s, 'x', 'y')",
            "INSERT INTO {a}.tools (id, tenant_id, name, capability)"
            " VALUES (%(u)s, %(t)s, 'x', 'y')",
            "INSERT INTO {a}.agent_tools (agent_id, tool_id, tenant_id)"
            " VALUES (%(u)s, %(u)s, %(t)s)",
            "INSERT INTO {a}.discussions (id, tenant_id, title) VALUES (%(u)s, %(t)s, 'x')",
            "INSERT INTO {a}.discussion_participants (discussion_id, agent_id, tenant_id)"
            " VALUES (%(u)s, %(u)s, %(t)s)",
            "INSERT INTO {a}.concepts (id, tenant_id, name, category)"
            " VALUES (%(u)s, %(t)s, 'x', 'y')",
            "INSERT INTO {a}.concept_relations (source_id, target_id, tenant_id, type, strength)"
            " VALUES (%(u)s, %(u)s, %(t)s, 'x', 1)",
            "INSERT INTO {a}.concept_appearances (concept_id, discussion_id, tenant_id)"
            " VALUES (%(u)s, %(u)s, %(t)s)",
            "INSERT INTO {a}.operations (id, tenant_id, type, agent_id, steps_total)"
            " VALUES (%(u)s, %(t)s, 'x', %(u)s, 1)",
            "INSERT INTO {a}.execution_steps (operation_id, step_number, tool_id, tenant_id, name)"
            " VALUES (%(u)s, 1, %(u)s, %(t)s, 'x')",
            "INSERT INTO {a}.learned_files (discussion_id, tenant_id, path, digest)"
            " VALUES (%(u)s, %(t)s, 'x', 'y')",
        ]
        named = {"n": one, "t": tenant, "u": f"00000000-0000-0000-0000-00000000000{one}"}
        for line in owned:
            named_schemas = {"l": lab, "a": sql.Identifier("agents")}
            await connection.execute(sql.SQL(line).format(**named_schemas), named)


async def _refuses_to_write(url: str, name: str) -> None:
    """Acting for `a`: rows of `b` are not changed, nor made of one's own."""
    table = sql.Identifier(*name.split("."))
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("SELECT set_config('polyplane.tenant', 'a', true)")
        for line in (
            "UPDATE {} SET tenant_id = 'a' WHERE tenant_id = 'b'",
            "DELETE FROM {} WHERE tenant_id = 'b'",
        ):
            assert (await connection.execute(sql.SQL(line).format(table))).rowcount == 0, name
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(sql.SQL("UPDATE {} SET tenant_id = 'b'").format(table))
        await connection.rollback()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(table))


async def test_everything_works_on_logins_of_their_own(
    plane_of: PlaneOf, settings: pp.Settings
) -> None:
    """Writes, events, relay, projections, a cache, sagas, files, verify, repair, partitions."""
    plane = await plane_of(
        settings=settings,
        models=MODELS,
        projections=[LetterSearch, StampEntry],
        sagas=[Posting],
        blobs=True,
    )
    async with plane.write(actor="x", tenant="a") as tx:
        tx.add(Letter(tenant_id="a", body="hello"))
        tx.add(Stamp(id=1, tenant_id="a"))
        tx.emit("post.sent", {"n": 1})
    await plane.settled(tx.token, timeout_s=20)
    assert len(await plane.acting(pp.Caller("x", "a"))[LetterSearch].search([1, 2, 3, 4])) == 1
    assert await plane.acting(pp.Caller("x", "a"))[StampEntry].get(1) == {"value": 1}
    ended = await plane.sagas.finished(await plane.sagas.start(Posting, {}, tenant="b"))
    assert (ended.state, ended.results["again"]) == ("done", 2)  # not the letter of a
    blob = await plane.blobs.put(b"content", name="file", tenant="a")
    assert b"".join([piece async for piece in plane.blobs.open(blob)]) == b"content"
    await by_hand(plane, "TRUNCATE letter CASCADE")
    mended = await plane.repair(timeout_s=30)
    assert mended.left.clean and (await plane.verify(timeout_s=30)).clean
    assert await plane.acting(pp.Caller("x", "a"))[LetterSearch].search([1, 2, 3, 4]) == []
    async with plane.opened.truth.relay.connection() as connection:
        await connection.execute("SELECT polyplane.make_partition(20000000)")
        await connection.execute("SELECT polyplane.drop_partitions()")
    assert plane.opened.relay is not None and plane.opened.relay.published_events == 3


async def test_a_truncate_for_one_tenant_is_captured_for_all(plane_of: PlaneOf) -> None:
    """With one login, too, where the owner itself acts for a tenant."""
    plane = await plane_of(models=MODELS, projections=[LetterSearch])
    await post(plane, "a", "one")
    await post(plane, "b", "two")
    assert await bodies(plane, pp.Caller("x", "a")) == ["one"]  # forced on the owner
    async with plane.write(actor="x", tenant="a") as tx:
        await tx.execute(sa.text("TRUNCATE letter CASCADE"))
        assert await tx.session.scalar(sa.text("SELECT current_setting('polyplane.tenant')")) == "a"
    await plane.caught_up(timeout_s=20)
    assert await plane.acting(pp.Caller("x", "a"))[LetterSearch].search([1, 2, 3, 4]) == []
    assert (await plane.verify(timeout_s=30)).clean


async def test_each_login_has_exactly_the_rights_that_are_written_down(
    plane_of: PlaneOf, settings: pp.Settings
) -> None:
    """On every table of the plane's: none on what is not named."""
    plane = await plane_of(settings=settings, models=MODELS, flows=False)
    found = await by_hand(
        plane,
        "SELECT c.relname, r.name, array_to_string(ARRAY(SELECT p FROM unnest(%s::text[]) AS p"
        " WHERE has_table_privilege('polyplane_' || r.name, c.oid, p)), ', ')"
        " FROM pg_class c, unnest(%s::text[]) AS r (name)"
        " WHERE c.relnamespace = 'polyplane'::regnamespace AND c.relkind IN ('r', 'p', 'v')",
        ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"],
        ["app", "projector", "relay", "audit"],
    )
    named = {"app": APP, "projector": PROJECTOR, "relay": RELAY, "audit": AUDIT}
    owners = {it for it, _, _ in found if it.startswith(("alembic_", "outbox_"))}
    assert {it for it, _, _ in found} - owners <= {it for rights in named.values() for it in rights}
    for table, login, rights in found:
        assert rights == named.get(login, {}).get(table, ""), (table, login)
    for login in ("app", "audit", "backup"):
        async with await psycopg.AsyncConnection.connect(url_of(settings, login)) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute("SELECT polyplane.touch('x', '{1}', '{R}')")
    async with await psycopg.AsyncConnection.connect(url_of(settings)) as connection:
        await connection.execute("SELECT set_config('polyplane.tenant', 'a', true)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(
                """SELECT polyplane.emit('{x.y}', '{"{\\"tenant\\": \\"b\\"}"}')"""
            )


HARM: dict[str, tuple[str, str, str]] = {
    # What somebody does, what is told of it, and how it is undone where `migrate up` does not.
    "disabled": ("ALTER TABLE letter DISABLE ROW LEVEL SECURITY", "has no row security", ""),
    "not forced": ("ALTER TABLE letter NO FORCE ROW LEVEL SECURITY", "does not force", ""),
    "tenant dropped": ("DROP POLICY polyplane_tenant ON letter", "lacks the policy", ""),
    "program dropped": ("DROP POLICY polyplane_program ON letter", "lacks the policy", ""),
    "service dropped": ("DROP POLICY polyplane_service ON letter", "lacks the policy", ""),
    "opened": ("ALTER POLICY polyplane_tenant ON letter USING (true)", "has another policy", ""),
    "for more": (
        "ALTER POLICY polyplane_service ON letter TO PUBLIC",
        "has another policy",
        "",
    ),
    "one more": (
        "CREATE POLICY mine ON letter FOR SELECT USING (true)",
        "further policy mine",
        "DROP POLICY mine ON letter",
    ),
    "a view": (
        "CREATE VIEW letters AS SELECT * FROM letter",
        "The view public.letters",
        "DROP VIEW letters",
    ),
    "a view on a view": (
        "CREATE VIEW one WITH (security_invoker) AS SELECT * FROM letter;"
        " CREATE VIEW two AS SELECT * FROM one",
        "The view public.two",
        "DROP VIEW one CASCADE",
    ),
    "a function": (
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "The function f()",
        "DROP FUNCTION f()",
    ),
    "a right on the outbox": (
        "GRANT SELECT ON polyplane.outbox TO polyplane_app",
        "a right on polyplane.outbox",
        "REVOKE SELECT ON polyplane.outbox FROM polyplane_app",
    ),
}


async def test_what_lets_rows_out_is_found_in_the_catalog_and_in_the_rows(
    plane_of: PlaneOf, settings: pp.Settings
) -> None:
    """Each change alone; `migrate up` mends what is the plane's own."""
    plane = await plane_of(settings=settings, models=MODELS, flows=False)
    await post(plane, "a", "one")
    await post(plane, "b", "two")
    owner, truth, tables = (
        database_of(settings, "database_url"),
        plane.opened.truth,
        guarded(MODELS),
    )
    for harm, (statement, told, undo) in HARM.items():
        assert await _what_is_seen(settings) == WHOLE, harm
        await by_hand(plane, statement)
        if not undo:
            assert await _what_is_seen(settings) != WHOLE, harm
        with pytest.raises(Misconfigured) as refused:
            await check(truth.app, tables, truth.logins)
        assert told in refused.value.message, harm
        assert (refused.value.fix == "Run: polyplane migrate up") == (not undo), harm
        if undo:
            await by_hand(plane, undo)
        async with owner.connection() as connection:
            assert await install_policies(connection, tables, truth.logins) == [], harm
            mended = await install_policies(connection, tables, truth.logins, anyway=True)
            assert mended == ([] if undo else ["public.letter"]), harm
        assert await check(truth.app, tables, truth.logins) == []
    await by_hand(plane, HARM["disabled"][0])
    await owner.close()
    with pytest.raises(Misconfigured, match="row security"):
        await plane_of(settings=settings, models=MODELS, flows=False)


async def test_a_login_that_gets_past_policies_is_refused(
    plane_of: PlaneOf, own_settings: pp.Settings, engines: Engines
) -> None:
    """One login for all is told of, and refused where `strict` is; so is a member of the owner."""
    plane = await plane_of(models=MODELS, flows=False)
    tables, truth = guarded(MODELS), plane.opened.truth
    told = await check(truth.app, tables, truth.logins)
    assert told and "can act as the owner of" in told[0]
    given = {name: getattr(own_settings, name) for name in own_settings.model_fields_set}
    with pytest.raises(Misconfigured, match="strict"):
        strict = pp.Settings.load(environ={}, **given, strict=True)
        await plane_of(settings=strict, models=MODELS, flows=False)
    apart_ = Logins("another", truth.logins.app, "r", "another")
    with pytest.raises(Misconfigured, match="can act as the owner"):
        await check(truth.app, tables, apart_)


WHOLE: dict[str, Any] = {
    "app": [[], ["a"], ["b"]],
    "projector": [["a", "b"], ["a", "b"], ["a", "b"]],
    "owner": [["a", "b"], ["a"], ["b"]],
    "audited": [],
}


async def _what_is_seen(settings: pp.Settings) -> dict[str, Any]:
    """Of letters: by whom, acting for nobody, for a and for b."""
    found: dict[str, Any] = {}
    urls = {"app": url_of(settings), "projector": url_of(settings, "projector")}
    for name, url in (urls | {"owner": settings.url("database_url") or ""}).items():
        found[name] = [await seen(url, "letter", tenant) for tenant in (None, "a", "b")]
    # A login that no policy is for.
    url = settings.url("database_url") or ""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("GRANT USAGE ON SCHEMA public TO polyplane_audit")
        await connection.execute("GRANT SELECT ON letter TO polyplane_audit")
    found["audited"] = await seen(url_of(settings, "audit"), "letter", None)
    return found
