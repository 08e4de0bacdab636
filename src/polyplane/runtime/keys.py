"""Keys: what there is, rotation while everything runs, and destruction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from polyplane.errors import Misconfigured, NotFound, Refused
from polyplane.model.secret_rows import secrets_of
from polyplane.model.table import table_of
from polyplane.model.touches import touches_of
from polyplane.runtime.declared import Declared
from polyplane.runtime.opening import Open
from polyplane.security import ledger
from polyplane.security.key_file import KeyFile
from polyplane.settings import Settings
from polyplane.truth import secret_keys
from polyplane.truth.capture import Captured
from polyplane.truth.keyring import Keyring
from polyplane.truth.secret_keys import Touched
from polyplane.truth.touching import Touching

BATCH_KEYS: Final = 200
"""Data keys wrapped anew in one transaction."""

Progress = Callable[[int, int], None]
"""Called with the number of data keys wrapped anew, and how many there are."""


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """A key-encryption key. `keys` data keys are wrapped with it, the oldest since `since`."""

    id: str
    primary: bool
    keys: int
    tenants: int
    persons: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class KeyList:
    """Every key-encryption key that is known or used, and how many data keys are destroyed."""

    keys: tuple[EncryptionKey, ...]
    destroyed: int


@dataclass(frozen=True, slots=True)
class Rotated:
    """`primary` wraps every data key now, `wrapped` of them since this call. `made`: it is new."""

    primary: str
    made: bool
    wrapped: int


@dataclass(frozen=True, slots=True)
class Destroyed:
    """Data keys that are gone, or would be; and how many rows of each table they concern."""

    keys: int
    rows: dict[str, int]


class Keys:
    """The keys of one plane. Every call raises Refused when no model has secrets."""

    def __init__(self, declared: Declared, opened: Open, settings: Settings) -> None:
        self._declared = declared
        self._opened = opened
        self._settings = settings

    @property
    def _ring(self) -> Keyring:
        if self._opened.stores.ring is None:
            raise Refused(
                "No model of this plane has secrets.", fix="Mark a column: marks.secret()."
            )
        return self._opened.stores.ring

    async def list(self) -> KeyList:
        """What there is; nothing of it is a key."""
        wrapping = self._ring.wrapping
        known = getattr(wrapping, "ids", [wrapping.primary])
        found = {it.kek: it for it in await secret_keys.counts(self._opened.truth.projector)}
        gone = found.pop(None, None)
        every = dict.fromkeys([*known, *(kek for kek in found if kek is not None)])
        rows = [(kek, found.get(kek)) for kek in every]
        return KeyList(
            tuple(
                EncryptionKey(
                    kek,
                    kek == wrapping.primary,
                    it.keys if it else 0,
                    it.tenants if it else 0,
                    it.persons if it else 0,
                    it.since if it else None,
                )
                for kek, it in rows
            ),
            gone.keys if gone else 0,
        )

    async def rotate(self, progress: Progress | None = None) -> Rotated:
        """Wrap every data key with the primary key-encryption key, while everything runs.

        Of keys in a file a new primary one is made first, unless an earlier rotation is unfinished:
        then it is gone on with. Of keys from elsewhere the primary one is what it is there. Rows
        are not touched. What is interrupted is gone on with by the next call.
        """
        ring, database = self._ring, self._opened.truth.projector
        left = await secret_keys.count_left(database, ring.wrapping.primary)
        made = not left and isinstance(ring.wrapping, KeyFile)
        if made:
            assert isinstance(ring.wrapping, KeyFile)
            await asyncio.to_thread(ring.wrapping.add)
            left = await secret_keys.count_left(database, ring.wrapping.primary)
        primary, done = ring.wrapping.primary, 0
        while True:
            if progress is not None:
                progress(done, max(left, done))
            rows = await secret_keys.rows_in(
                database.rows, "to_wrap", primary=primary, limit=BATCH_KEYS
            )
            if not rows:
                return Rotated(primary, made, done)
            new = [await ring.wrap(await ring.unwrap(row), row) for row in rows]
            if {it.kek for it in new} != {primary}:
                raise Misconfigured(
                    "The primary encryption key changed meanwhile.", fix="Rotate once more."
                )
            await secret_keys.rewrap(database, [*zip(rows, new, strict=True)])
            done += len(rows)

    async def destroy(
        self, *, person: str | None = None, tenant: str | None = None, dry: bool = False
    ) -> Destroyed:
        """Destroy the data key of a person (in one tenant, or in all), or every one of a tenant.

        What they have encrypted cannot be read any more: here at once, in every process within a
        second. What projections made of it goes as changes do. With `dry` nothing is done. Raises
        Refused without a person or a tenant, NotFound when there is no such data key.
        """
        chosen = {"person": person, "tenant": tenant}
        if not any(chosen.values()):
            raise Refused("Name a person, or a tenant.", field="person")
        ring, database = self._ring, self._opened.truth.projector
        if dry:
            keys, rows = await secret_keys.encrypted_with(database, chosen, self._declared.secrets)
            return Destroyed(keys, rows)
        path = self._settings.home / ledger.NAME

        async def note(ids: Sequence[str]) -> None:
            await asyncio.to_thread(ledger.note, path, ids)
            ring.forget(ids)

        ids, rows = await secret_keys.destroy(database, chosen, _touched(self._declared), note)
        ring.forget(ids)
        if not ids:
            raise NotFound("There is no data key of theirs.", field="person")
        await self._opened.feed.hint()
        return Destroyed(len(ids), rows)


def _touched(declared: Declared) -> list[Touched]:
    """What is projected again when data keys go: rows whose secrets a projection reads."""
    found: dict[tuple[str, str], Touched] = {}
    for projection in declared.projections:
        if not projection.secrets:
            continue
        if own := secrets_of(projection.model):
            found[own.name, ""] = Touched(own)
        parent = Captured(table_of(projection.model))
        for touch in touches_of(projection):
            if rows := secrets_of(touch.model):
                it = Touching(parent, touch.column)
                found[rows.name, it.name] = Touched(rows, it)
    return list(found.values())
