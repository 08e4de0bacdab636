"""Truth for a plane: migrated, captured, guarded; and one pool for each login."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote, urlsplit

import structlog

from polyplane.errors import Misconfigured
from polyplane.model.table import Model, table_of
from polyplane.ops.migrate import CORE, Component, create_missing, migrate_up
from polyplane.runtime.declared import Declared
from polyplane.security.logins import Logins
from polyplane.security.policies import guarded
from polyplane.settings import Settings
from polyplane.truth.capture import Captured, Triggers, install, remove_dangling
from polyplane.truth.database import Connection, Database
from polyplane.truth.guarding import check, grant, install_policies, who
from polyplane.truth.scan import source_of
from polyplane.truth.touching import touching_of, unindexed

_log = structlog.get_logger(__name__)

AWAKE_S: Final = 60.0
"""How long to wait for a PostgreSQL that is there, but still recovers."""
FEW: Final = 2
"""Connections of a login that does one thing at a time, and is the owner's while a plane opens."""
_POOLS: Final = ("app", "projector", "relay", "audit")


@dataclass(frozen=True, slots=True)
class Truth:
    """The pools of one PostgreSQL: what the application does, what derives, publishes and seals.

    They are one where there is one login.
    """

    app: Database
    projector: Database
    relay: Database
    audit: Database
    logins: Logins


async def open_truth(
    declared: Declared,
    settings: Settings,
    urls: Mapping[str, str],
    stack: AsyncExitStack,
    *,
    prepare: bool,
) -> Truth:
    """Connect every login; with `prepare` migrate, capture and guard as the owner before.

    Raises Misconfigured when rows could be got at by whom they are not for; with `strict` also
    where only a login of its own would prevent it.
    """
    owner_url = urls["postgres"]
    wanted = [urls.get(f"postgres.{name}", owner_url) for name in _POOLS]
    is_one = len({owner_url, *wanted}) == 1
    most = settings.db_max_connections
    shares = (most,) * 4 if is_one else (most, most, FEW, FEW)
    pools: dict[str, Database] = {}
    for url, connections in zip(wanted, shares, strict=True):
        if url not in pools:
            pools[url] = _database(url, settings, connections)
            stack.push_async_callback(pools[url].close)
    app, projector, relay, audit = (pools[url] for url in wanted)
    await app.awake(AWAKE_S)
    names = {pool: await who(pool) for pool in {app, projector, relay}}
    logins = Logins(
        names[app] if is_one else user_of(owner_url),
        names[app],
        relay=names[relay],
        projector=names[projector],
        backup=_user_of(urls, "backup"),
        audit=_user_of(urls, "audit"),
    )
    if prepare:
        async with AsyncExitStack() as meanwhile:
            owner = pools.get(owner_url)
            if owner is None:  # not needed afterwards
                owner = _database(owner_url, settings, FEW)
                meanwhile.push_async_callback(owner.close)
            logins = replace(logins, owner=await who(owner))
            await prepare_truth(declared, owner, owner_url, logins)
    lacking = await check(app, guarded(declared.models), logins)
    if lacking and settings.strict:
        raise Misconfigured(
            f"strict: {lacking[0]}", fix="Set POLYPLANE_DATABASE_APP_URL; see docs/security.md."
        )
    for why in lacking:
        _log.warning("security.one_login", why=why)
    return Truth(app, projector, relay, audit, logins)


async def guard_again(models: Sequence[type[Model]], urls: Mapping[str, str]) -> list[str]:
    """Give the tables of `models` that exist their policies, and every login its rights; also
    where somebody has changed them. The names of the tables that had others.
    """
    owner = Database(urls["postgres"], max_connections=4)
    try:
        name = await who(owner)
        named = {it: _user_of(urls, it) or name for it in ("app", "relay", "projector")}
        logins = Logins(
            name, **named, backup=_user_of(urls, "backup"), audit=_user_of(urls, "audit")
        )
        async with owner.connection() as connection:
            return await _guard(connection, models, logins, anyway=True)
    finally:
        await owner.close()


async def _guard(
    connection: Connection, models: Sequence[type[Model]], logins: Logins, *, anyway: bool
) -> list[str]:
    changed = await install_policies(connection, guarded(models), logins, anyway=anyway)
    for name in changed:
        _log.info("policies.installed", table=name)
    schemas = sorted({table_of(model).schema or "public" for model in models})
    if await grant(connection, logins, schemas):
        _log.info("rights.given")
    return changed


async def prepare_truth(declared: Declared, database: Database, url: str, logins: Logins) -> None:
    """Migrate, create what no migration brings, install capture, guard. Idempotent."""
    components = [Component(a.name, a.migrations) for a in declared.applications if a.migrations]
    await migrate_up(url, [CORE, *components])
    migrated = {m for a in declared.applications if a.migrations for m in a.models}
    await create_missing(database, [model for model in declared.models if model not in migrated])
    touching = {it.name: it for p in declared.projections for it in touching_of(p)}
    wanted: list[Triggers] = [source_of(model).captured for model in declared.captured]
    wanted += [Captured(table_of(model)) for model in declared.followed_models()]
    wanted += touching.values()
    named = {triggers.name: triggers for triggers in wanted}
    async with database.connection() as connection:
        await remove_dangling(connection)
        for name in await install(connection, [named[it] for it in sorted(named)]):
            _log.info("capture.installed", table=name)
        for name in await unindexed(connection, list(touching.values())):
            _log.warning("touch.unindexed", column=name)
        await _guard(connection, declared.models, logins, anyway=False)


def _database(url: str, settings: Settings, connections: int) -> Database:
    return Database(
        url,
        max_connections=connections,
        pool_timeout_s=settings.db_pool_timeout_s,
        call_timeout_s=settings.db_call_timeout_s,
    )


def user_of(url: str) -> str:
    """Who a URL connects as, in clear."""
    return unquote(urlsplit(url).username or "")


def _user_of(urls: Mapping[str, str], name: str) -> str | None:
    url = urls.get(f"postgres.{name}")
    return None if url is None else user_of(url)
