"""Entries of tenants: the value under the tenant's own key, its stamp under a key of nobody's.

A change knows the key of its row, but a drop does not know whose the row was. So what gates an
entry (position, digest, and whose it is) is `<namespace>::<name>`, and the value is
`<namespace>:<tenant>:<name>`. One script changes both. The server may let go of either by itself: a
value counts only together with a stamp of the same position and tenant, so that without its gate
nothing is an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote
from zlib import crc32

import orjson
import structlog

from polyplane.model.collection import Collection
from polyplane.model.digest import canonical
from polyplane.model.items import Entry, Held, Item, Stamp
from polyplane.model.scope import OWNER_ID, TENANT_ID, Scope, segment
from polyplane.stores.cache.server import Server

_log = structlog.get_logger(__name__)

_SCRIPT_KEYS: Final = 250
_NOBODY: Final = "%-"
"""The place of what is no tenant's: no tenant's name is written so."""
_ANYBODY: Final = "default"
"""The place of what belongs to owners, but to no tenants."""

# KEYS the gates; ARGV the collection, the position, what names begin with before and behind their
# tenant, then of each entry: key, digest ('' for a tombstone), JSON, checksum, seconds to live,
# tenant, owner ('' or '=' and the owner).
_APPLY: Final = """
local position = tonumber(ARGV[2])
for i, gate in ipairs(KEYS) do
  local held = redis.pcall('HMGET', gate, 'p', 't')
  local foreign = held.err or (held[1] and not tonumber(held[1]))
  if foreign or not held[1] or tonumber(held[1]) < position then
    local at = 7 * i - 2
    local name, digest, ttl_s, tenant = ARGV[at], ARGV[at + 1], ARGV[at + 4], ARGV[at + 5]
    if not foreign and held[2] then
      redis.call('DEL', ARGV[3] .. held[2] .. ':' .. ARGV[4] .. name)
    end
    redis.call('DEL', gate)
    redis.call('HSET', gate, 'c', ARGV[1], 'p', ARGV[2])
    if digest ~= '' then
      local place = ARGV[3] .. tenant .. ':' .. ARGV[4] .. name
      redis.call('HSET', gate, 'd', digest, 't', tenant)
      redis.call('DEL', place)
      redis.call('HSET', place, 'c', ARGV[1], 'p', ARGV[2], 'v', ARGV[at + 2], 's', ARGV[at + 3],
        't', tenant, 'o', ARGV[at + 6])
      redis.call('EXPIRE', place, ttl_s)
    end
    redis.call('EXPIRE', gate, ttl_s)
  end
end
"""

# KEYS the gates; ARGV as above up to the names' beginnings, the seconds to live, then the keys.
_BURY: Final = """
for i, gate in ipairs(KEYS) do
  local held = redis.pcall('HGET', gate, 't')
  if type(held) == 'string' then
    redis.call('DEL', ARGV[3] .. held .. ':' .. ARGV[4] .. ARGV[5 + i])
  end
  redis.call('DEL', gate)
  redis.call('HSET', gate, 'c', ARGV[1], 'p', ARGV[2])
  redis.call('EXPIRE', gate, ARGV[5])
end
"""

_VALUE: Final = ("p", "v", "s", "t", "o")


class Tenants:
    """The entries of collections whose items say whose they are."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def gates(self, collection: Collection) -> str:
        """What the names of the gates of `collection` begin with."""
        return f"{self._server.root}:{_rest(collection)}"

    def places(self, collection: Collection) -> tuple[str, str]:
        """What the names of values begin with, before their tenant and behind it."""
        return self._server.root, f":{_rest(collection)}"

    async def offer(
        self,
        collection: Collection,
        puts: Sequence[tuple[Item, int]],
        drops: Sequence[str],
        position: int,
        drop_ttl_s: int,
    ) -> None:
        """Put items, each for so many seconds, and drop others, each if it is newer."""
        entries: list[tuple[str, list[Any]]] = []
        for item, ttl_s in puts:
            value, place = canonical(item.content.value), _place(collection, item.content.marks)
            owner = _owner(item.content.marks)
            summed = _sum(self._name(collection, place, item.key), position, value, owner)
            parts = [item.key, item.digest, value, summed, ttl_s, place, owner]
            entries.append((item.key, parts))
        entries += [(key, [key, "", "", "", drop_ttl_s, "", ""]) for key in drops]
        start, fixed = self.gates(collection), self._fixed(collection, position)
        for first in range(0, len(entries), _SCRIPT_KEYS):
            some = entries[first : first + _SCRIPT_KEYS]
            named = [start + key for key, _ in some]
            given = [part for _, parts in some for part in parts]
            async with self._server.calls() as client:
                await client.eval(_APPLY, len(named), *named, *fixed, *given)

    async def bury(
        self, collection: Collection, keys: Sequence[str], position: int, ttl_s: int
    ) -> None:
        """Put a tombstone in the place of what each key gates."""
        start, fixed = self.gates(collection), self._fixed(collection, position)
        for first in range(0, len(keys), _SCRIPT_KEYS):
            some = keys[first : first + _SCRIPT_KEYS]
            named = [start + key for key in some]
            async with self._server.calls() as client:
                await client.eval(_BURY, len(named), *named, *fixed, ttl_s, *some)

    async def get(self, collection: Collection, scope: Scope, key: str) -> Entry | None:
        """The entry under `key` that `scope` sees; None when there is none, or it is damaged."""
        gate = self.gates(collection) + key
        if scope.is_everything:
            async with self._server.calls() as client:
                found: list[Any] = await client.hmget(gate, ["t"])
            if found[0] is None:
                return None
            place = _text(found[0])
        else:
            place = _place(collection, {TENANT_ID: scope.tenant})
        name = self._name(collection, place, key)
        async with self._server.calls() as client, client.pipeline(transaction=False) as pipe:
            pipe.hmget(gate, ["p", "t"])
            pipe.hmget(name, list(_VALUE))
            gated, held = await pipe.execute()
        if held[0] is None or gated != [held[0], held[3]] or held[3] != place.encode():
            return None
        if held[2] != _sum(name, held[0].decode(errors="replace"), held[1], _text(held[4])):
            _log.warning("cache.damaged", collection=collection.target, key=key)
            return None
        entry = Entry(orjson.loads(held[1]), marks=_marks(collection, held))
        return entry if scope.sees(collection.marks, entry.marks) else None

    async def held(self, collection: Collection, keys: Sequence[str]) -> list[Held]:
        """What is really held under `keys`: tombstones, and values together with their gates."""
        start = self.gates(collection)
        async with self._server.calls() as client, client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(start + key, ["c", "p", "d", "t"])
            gates = await pipe.execute(raise_on_error=False)
            ours = [(k, it) for k, it in zip(keys, gates, strict=True) if _is_gate(collection, it)]
            for key, it in ours:
                place = _text(it[3]) or _NOBODY
                pipe.hmget(self._name(collection, place, key), list(_VALUE))
            values = await pipe.execute(raise_on_error=False)
        found = []
        for (key, gate), value in zip(ours, values, strict=True):
            if gate[2] is None:
                found.append(Held(Stamp(key, int(gate[1]), None), None))
            elif isinstance(value, list) and [value[0], value[3]] == [gate[1], gate[3]]:
                stamp = Stamp(key, int(gate[1]), _text(gate[2]))
                found.append(Held(stamp, Entry(_value(value[1]), marks=_marks(collection, value))))
        return found

    def _name(self, collection: Collection, place: str, key: str) -> str:
        return f"{self._server.root}{place}:{_rest(collection)}{key}"

    def _fixed(self, collection: Collection, position: int) -> list[str | int]:
        return [collection.target, position, self._server.root, _rest(collection)]


def _rest(collection: Collection) -> str:
    """What names begin with behind their tenant: two generations may stand side by side."""
    generation = "" if collection.generation == 1 else f"g{collection.generation}:"
    return f"{generation}{collection.key_prefix or f'{collection.name}:'}"


def _place(collection: Collection, marks: Any) -> str:
    """How the tenant is written in the name of a value."""
    if TENANT_ID not in collection.marks:
        return _ANYBODY
    tenant = marks.get(TENANT_ID)
    return _NOBODY if tenant is None else segment(tenant)


def _owner(marks: Any) -> str:
    owner = marks.get(OWNER_ID)
    return "" if owner is None else f"={owner}"


def _marks(collection: Collection, value: list[Any]) -> dict[str, str | None]:
    """Whose a value says it is."""
    place, owner = _text(value[3]), _text(value[4])
    tenant = None if place == _NOBODY else "" if place == "%" else unquote(place)
    said = {TENANT_ID: tenant, OWNER_ID: owner[1:] if owner else None}
    return {name: said[name] for name in collection.marks}


def _is_gate(collection: Collection, held: Any) -> bool:
    """Whether it is there; else it has expired, is of a longer prefix, or is no gate at all."""
    if not isinstance(held, list) or held[0] != collection.target.encode():
        return False
    return held[1] is not None and bool(held[1].isdigit())


def _text(value: bytes | None) -> str:
    return value.decode(errors="replace") if value else ""


def _value(value: bytes | None) -> Any:
    """What is held, damaged or not."""
    try:
        return orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return (value or b"").hex()


def _sum(name: str, position: int | str, value: bytes, owner: str) -> bytes:
    """A checksum of a value and of all that says whose it is; its name says the tenant."""
    return b"%08x" % crc32(
        b"\0".join((name.encode(), str(position).encode(), value, owner.encode()))
    )
