"""The data keys that this process has in its hands: few, for a short time, and only if alive.

Whoever reads asks truth again after FRESH_S, so that one that is destroyed is soon of no use in
any process; whoever derives asks each time. It asks on connections of its own: who waits for a key
holds a connection already.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Sequence
from secrets import token_bytes
from time import monotonic
from typing import Any, Final
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

from polyplane.errors import PolyplaneError, SecretDamaged, SecretDestroyed, Unavailable
from polyplane.model.secret_rows import Place, Scope
from polyplane.model.wrapping import KeyWrapping, Wrapped
from polyplane.security.cipher import KEY_BYTES, parse, seal, unseal
from polyplane.truth.database import Database
from polyplane.truth.secret_keys import DIGESTS, SECRETS, Execute, KeyRow, add, rows_in

FRESH_S: Final = 0.5
"""For how long a reader takes a key that truth had for one it has."""
HELD_S: Final = 60.0
KEYS_MAX: Final = 10_000
WRAP_S: Final = 10.0
"""Deadline of one call to what wraps."""


class SecretKey:
    """A data key, or why there is none. Who holds one loses it when it is destroyed."""

    __slots__ = ("__weakref__", "_error", "_material", "confirmed", "id", "wrapped")

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.wrapped: Wrapped | None = None
        self.confirmed = 0.0
        self._material: bytes | None = None
        self._error: PolyplaneError = SecretDamaged("A ciphertext names a data key that is none.")

    def is_(self, material: bytes, wrapped: Wrapped) -> None:
        """It is alive, and this."""
        self._material, self.wrapped = material, wrapped

    def is_not(self, error: PolyplaneError) -> None:
        """It is not to be had, and why; what was known of it is forgotten."""
        self._material, self.wrapped, self._error = None, None, error

    def destroy(self) -> None:
        """It is destroyed."""
        self.is_not(SecretDestroyed("The key of this secret is destroyed."))

    @property
    def material(self) -> bytes:
        """The key itself; raises why there is none."""
        if self._material is None:
            raise self._error
        return self._material

    @property
    def is_destroyed(self) -> bool:
        """Whether it is gone on purpose."""
        return self._material is None and isinstance(self._error, SecretDestroyed)

    def seal(self, value: Any, place: Place) -> str:
        """The ciphertext of `value` in its place."""
        return seal(value, self.id, self.material, place.bound_to())

    def unseal(self, text: str, place: Place) -> Any:
        """The value of a ciphertext that was read at `place`."""
        return unseal(parse(text), self.material, place.bound_to())


class Keyring:
    """Data keys by their ids, or by whose they are."""

    def __init__(self, database: Database, wrapping: KeyWrapping) -> None:
        """`database` is the keyring's own, and closed by it."""
        self.wrapping = wrapping
        self.database = database
        self._held: OrderedDict[str, SecretKey] = OrderedDict()
        self._known: WeakValueDictionary[str, SecretKey] = WeakValueDictionary()

    async def keys(self, ids: Collection[str], *, fresh: bool = False) -> dict[str, SecretKey]:
        """The data keys of `ids`, alive or not, as truth has them: now, if `fresh`, or lately.

        In one statement. Raises TruthDown, and Unavailable when what wraps does not answer.
        """
        oldest = monotonic() - (0.0 if fresh else FRESH_S)
        found = {it: key for it in ids if (key := self._known.get(it)) is not None}
        wanted = [it for it in ids if it not in found or found[it].confirmed < oldest]
        if wanted:
            asked = monotonic()
            told = {row.id: row for row in await self._of(wanted)}
            learnt = [self._learn(it, told.get(it), asked) for it in wanted]
            found |= zip(wanted, await asyncio.gather(*learnt), strict=True)
        return found

    async def for_writing(
        self, execute: Execute, scopes: Collection[Scope]
    ) -> dict[Scope, SecretKey]:
        """The data keys of `scopes`, made where there are none.

        Within the transaction of `execute`: none of them can be destroyed before that ends.
        """
        return await self._ensured(execute, SECRETS, sorted(scopes))

    async def for_digests(self) -> SecretKey:
        """The data key of digests over secrets; it is never another one, whatever is rotated."""
        (key,) = (await self._ensured(self._execute, DIGESTS, [Scope("")])).values()
        return key

    def forget(self, ids: Collection[str]) -> None:
        """Data keys are destroyed: whoever holds one here loses it now."""
        for it in ids:
            if (key := self._known.get(it)) is not None:
                key.destroy()

    async def wrap(self, key: bytes, row: KeyRow) -> Wrapped:
        """A data key, wrapped with the primary key-encryption key."""
        try:
            async with asyncio.timeout(WRAP_S):
                return await self.wrapping.wrap(key, row.about())
        except PolyplaneError:
            raise
        except Exception as error:
            raise _down(error) from error

    async def unwrap(self, row: KeyRow) -> bytes:
        """The data key of a row that is alive."""
        assert row.wrapped is not None
        try:
            async with asyncio.timeout(WRAP_S):
                return await self.wrapping.unwrap(row.wrapped, row.about())
        except PolyplaneError:
            raise
        except Exception as error:
            raise _down(error) from error

    async def close(self) -> None:
        """Forget every key, and close the connections."""
        self._held.clear()
        await self.database.close()

    async def _of(self, ids: Sequence[str]) -> list[KeyRow]:
        proper = [it for it in ids if _is_id(it)]
        return await rows_in(self._execute, "get", ids=proper) if proper else []

    async def _execute(self, query: Any, given: Any) -> Sequence[Sequence[Any]]:
        return await self.database.rows(query, given)

    async def _learn(self, id_: str, row: KeyRow | None, asked: float) -> SecretKey:
        """What truth said of one, when it was asked."""
        key = self._known.get(id_) or SecretKey(id_)
        if row is None:
            key.is_not(SecretDamaged("A ciphertext names a data key that is none."))
        elif row.wrapped is None:
            key.destroy()
        elif row.wrapped != key.wrapped:
            try:
                key.is_(await self.unwrap(row), row.wrapped)
            except Unavailable:
                raise
            except PolyplaneError as error:  # of this one: the others can be read
                key.is_not(error)
        key.confirmed = asked
        self._hold(key)
        return key

    def _hold(self, key: SecretKey) -> None:
        """Keep one for a while, and those no longer that were kept for too long."""
        self._known[key.id] = key
        self._held[key.id] = key
        self._held.move_to_end(key.id)
        before = monotonic() - HELD_S
        for known in [*self._held.values()][:2]:  # each takes the place of one, or of two
            if len(self._held) > KEYS_MAX or known.confirmed < before:
                del self._held[known.id]

    async def _ensured(
        self, execute: Execute, purpose: str, scopes: Sequence[Scope]
    ) -> dict[Scope, SecretKey]:
        given = {
            "purpose": purpose,
            "tenants": [scope.tenant for scope in scopes],
            "persons": [scope.person for scope in scopes],
        }
        asked = monotonic()
        rows = await rows_in(execute, "of", **given)
        if missing := set(scopes) - {row.scope for row in rows}:
            # In one order, so that two who make the same ones do not wait for each other.
            made = [await self._made(purpose, scope) for scope in sorted(missing)]
            await add(execute, purpose, made)
            rows = await rows_in(execute, "of", **given)
        found = {row.scope: await self._learn(row.id, row, asked) for row in rows}
        for key in found.values():
            _ = key.material  # what cannot be unwrapped is told before anything is encrypted
        if found.keys() != set(scopes):
            raise Unavailable("A data key was destroyed at this moment.", fix="Do it again.")
        return found

    async def _made(self, purpose: str, scope: Scope) -> KeyRow:
        row = KeyRow(str(uuid4()), purpose, scope, None)
        return row._replace(wrapped=await self.wrap(token_bytes(KEY_BYTES), row))


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _down(error: Exception) -> Unavailable:
    return Unavailable(
        f"What wraps data keys does not answer ({type(error).__name__}).",
        fix="Check the key service; nothing is lost.",
    )
