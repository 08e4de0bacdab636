"""States under the seed's keys (`operation:<id>`), each a hash with an expiry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import structlog

from polyplane.model.channel import Channel
from polyplane.model.live import StateKind
from polyplane.model.scope import segment
from polyplane.stores.cache.channels import name_of
from polyplane.stores.cache.server import Server

_log = structlog.get_logger(__name__)

# KEYS the state; ARGV seconds to live, whether to begin with nothing, the channel, the id, then
# names and values. What is there but is no hash is not ours, in a place that is. The new state, its
# expiry and the word of it come at once: no crash leaves one without the others.
_PUT: Final = """
local held = redis.call('TYPE', KEYS[1])
held = type(held) == 'table' and held.ok or held
if ARGV[2] == '1' or (held ~= 'hash' and held ~= 'none') then redis.call('DEL', KEYS[1]) end
for i = 5, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[3], ARGV[4])
"""
_DROP: Final = """
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
"""
_READ_IDS: Final = 500


class StatesInCache:
    """StateStore: `<namespace>:<tenant>:<key>`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def put(
        self, tenant: str, kind: StateKind, id: str, fields: Mapping[str, bytes], *, merge: bool
    ) -> None:
        """See the protocol."""
        pairs = [part for pair in fields.items() for part in pair]
        said = self._said(tenant, kind)
        args = [kind.ttl_s, "0" if merge else "1", said, id, *pairs]
        async with self._server.calls() as client:
            await client.register_script(_PUT)(keys=[self._key(tenant, kind, id)], args=args)

    async def get(
        self, tenant: str, kind: StateKind, ids: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """See the protocol."""
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(ids), _READ_IDS):
            some = ids[start : start + _READ_IDS]
            async with self._server.calls() as client, client.pipeline(transaction=False) as pipe:
                for id in some:
                    pipe.hgetall(self._key(tenant, kind, id))
                answers = await pipe.execute(raise_on_error=False)
            for id, held in zip(some, answers, strict=True):
                if held and isinstance(held, dict) and (state := _state(kind, held)):
                    found[id] = state
        return found

    async def drop(self, tenant: str, kind: StateKind, id: str) -> None:
        """See the protocol."""
        async with self._server.calls() as client:
            await client.register_script(_DROP)(
                keys=[self._key(tenant, kind, id)], args=[self._said(tenant, kind), id]
            )

    def _key(self, tenant: str, kind: StateKind, id: str) -> str:
        return f"{self._server.root}{segment(tenant)}:{kind.key_of(id)}"

    def _said(self, tenant: str, kind: StateKind) -> str:
        return name_of(self._server.root, Channel("states", tenant, kind.name))


def _state(kind: StateKind, held: Mapping[bytes, bytes]) -> dict[str, Any]:
    """What a hash holds of the fields that are declared; nothing of one that is damaged."""
    try:
        return {
            name: orjson.loads(held[name.encode()]) for name in kind.fields if name.encode() in held
        }
    except orjson.JSONDecodeError:
        _log.warning("state.damaged", kind=kind.name)
        return {}
