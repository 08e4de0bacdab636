"""The request cache: what applications load, kept until it changes, or for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import random
from typing import Any
from uuid import UUID

import orjson

from polyplane.errors import Misconfigured, NotSettled, Refused
from polyplane.feed.protocol import Feed, Subjects
from polyplane.model.position import Position, Token
from polyplane.model.projection import Cached
from polyplane.model.requests import TTL_S_MAX, Answer, Wanted, is_early
from polyplane.model.scope import Scope
from polyplane.model.table import Model, table_name, table_of
from polyplane.runtime.declared import Declared
from polyplane.runtime.loads import FIRST_POLL_S, LAST_POLL_S, Asking, Loads, is_fresh, is_told
from polyplane.stores.protocol import CacheStore
from polyplane.stores.request_protocol import RequestStore
from polyplane.truth.journal import Journal

Depends = Sequence[type[Model] | tuple[type[Model], Any]]
"""What an entry depends on: models as a whole, or (model, key of a row)."""
Load = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Requests:
    """What all request caches of a plane share."""

    loads: Loads
    captured: Mapping[type[Model], str]
    """The models whose changes are told, and the names of their tables in them."""
    relayed: Callable[[Token], Awaitable[bool]]
    newest: Callable[[], Awaitable[int]]
    """The packed position of the last change that is published."""
    epoch: Callable[[], int]

    @property
    def store(self) -> RequestStore:
        """Where entries are kept."""
        return self.loads.store


class RequestCache:
    """Values that are loaded when they are asked for and kept for a while, of one scope."""

    def __init__(self, requests: Requests, scope: Scope) -> None:
        self._requests = requests
        self._loads = requests.loads
        self._scope = scope

    async def get_or_load(
        self,
        key: str,
        load: Load,
        *,
        ttl_s: float,
        depends: Depends,
        stale_s: float = 0.0,
        shared: bool = False,
        beta: float = 1.0,
        load_timeout_s: float = 10.0,
    ) -> Answer:
        """The value under `key`, from the cache or from `load`, which must give JSON.

        It is kept for `ttl_s` seconds (less a little) at most, until something it `depends` on
        changes; name all that `load` reads. For `stale_s` seconds more it is given when `load`
        meets an engine that is down. What a caller who does not see all of the tenant asks for is
        kept for them alone, unless it is `shared`, being the same for everybody. The greater
        `beta`, the earlier a value that is asked for often is loaded anew; 0: never early.

        A value of more than 1 MiB is given and not kept. Raises what `load` raises, and Unavailable
        when it takes longer than `load_timeout_s`.
        """
        _check(key, ttl_s, stale_s, beta, load_timeout_s)
        wanted, loads = self._wanted(key, depends, shared), self._loads
        found = await loads.read(wanted)
        is_hit = found is not None and is_fresh(found)
        loads.counts["hit" if is_hit else "miss"] += 1
        if found is not None and found.kept is not None and is_hit:
            if is_early(loads.store.now_ms(), found.kept, beta, 1.0 - random()):
                asking = Asking(wanted, load, ttl_s, stale_s, load_timeout_s)
                loads.refresh(asking, found)
            return Answer(orjson.loads(found.kept.body), "cache")
        landed = await loads.joined(Asking(wanted, load, ttl_s, stale_s, load_timeout_s))
        if landed.origin in ("direct", "stale"):
            loads.counts[landed.origin] += 1
        return Answer(orjson.loads(landed.body), landed.origin)

    async def forget(self, key: str, *, shared: bool = False) -> None:
        """Delete what is kept under `key`; a load that is under way does not fill it any more.

        For what changes and is no row. Raises StoreDown.
        """
        await self._loads.store.forget(self._wanted(key, (), shared))

    async def settled(self, token: Token | None, *, timeout_s: float = 10.0) -> None:
        """Return when no entry from before the write that gave `token` is given any more.

        Raises NotSettled when that is not so within `timeout_s` seconds.
        """
        requests = self._requests
        if token is None or token.epoch != requests.epoch():
            return
        try:
            async with asyncio.timeout(timeout_s):
                pause_s = FIRST_POLL_S
                while not await requests.relayed(token):
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 1.5, LAST_POLL_S)
                needed, pause_s = await requests.newest(), FIRST_POLL_S
                while not await is_told(self._loads.store, needed):
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 1.5, LAST_POLL_S)
        except TimeoutError:
            raise NotSettled(
                f"The write {token} is stored, but the request cache has not been told within"
                f" {timeout_s:g} s.",
                fix="Read again later.",
            ) from None

    # What is asked for

    def _wanted(self, key: str, depends: Depends, shared: bool) -> Wanted:
        scope = self._scope
        owner = None if shared or scope.sees_all else scope.owner or ""
        wanted = Wanted(scope.tenant, owner, key, tuple(map(self._depend, depends)))
        wanted.check()
        return wanted

    def _depend(self, depend: type[Model] | tuple[type[Model], Any]) -> tuple[str, str | None]:
        model, key = depend if isinstance(depend, tuple) else (depend, None)
        table = self._requests.captured.get(model)
        if table is None:
            raise Misconfigured(
                f"Nobody is told when {model.__name__} changes.",
                fix=f"Add {model.__name__} to the application's `follows`, or project it.",
            )
        return table, None if key is None else _text(key)


def requests_of(
    declared: Declared,
    store: CacheStore,
    journal: Journal,
    feed: Feed,
    subjects: Subjects,
    epoch: Callable[[], int],
) -> Requests:
    """The request cache of a plane. Raises Misconfigured for a projection that takes its names."""
    for projection in declared.of_kind(Cached):
        named = projection.key_prefix if issubclass(projection, Cached) else ""
        if (named or f"{projection.name}:").startswith(("cache:", "of:")):
            raise Misconfigured(
                f"The keys of {projection.__name__} are those of the request cache.",
                fix="Give it another key_prefix.",
            )

    async def newest() -> int:
        bounds = await feed.bounds(subjects.changes)
        return Position(epoch(), bounds.last).packed()

    told = dict.fromkeys((*declared.captured, *declared.followed_models()))
    captured = {model: table_name(table_of(model)) for model in told}
    return Requests(Loads(store.requests), captured, journal.is_relayed, newest, epoch)


def request_cache_of(requests: Requests | None, scope: Scope) -> RequestCache:
    """The request cache of one scope; Misconfigured when the plane has no cache."""
    if requests is None:
        raise Misconfigured("This plane has no cache.", fix="Set REDIS_URL or a home.")
    return RequestCache(requests, scope)


def _check(key: str, ttl_s: float, stale_s: float, beta: float, load_timeout_s: float) -> None:
    if not 1 <= ttl_s <= TTL_S_MAX or not 0 <= stale_s <= TTL_S_MAX:
        raise Misconfigured(f"{key} would be kept for {ttl_s:g} s, and {stale_s:g} s more.")
    if not 0 <= beta <= 100 or not 0.01 <= load_timeout_s <= 600:
        raise Misconfigured("beta is from 0 to 100, load_timeout_s from 0.01 to 600.")


def _text(key: Any) -> str:
    """The canonical text of a row's key (see `Captured.key`)."""
    if isinstance(key, str | int | UUID) and not isinstance(key, bool):
        return str(key)
    raise Refused(
        f"{key!r} is no key of a row.",
        field="depends",
        fix="Give its text: of a UUID, a number, or as the changes have it.",
    )
