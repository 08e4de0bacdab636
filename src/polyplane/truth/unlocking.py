"""Secrets in rows that are derived from: locked, unless the projection says that it reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

import sqlalchemy as sa

from polyplane.model.secret import Secret, bound, ciphertext_of, locked
from polyplane.model.secret_rows import SecretRows, secrets_of
from polyplane.model.table import Model, table_name
from polyplane.security.cipher import key_id_of
from polyplane.truth.keyring import Keyring, SecretKey
from polyplane.truth.rows import Row, Unreadable


def lock_of(column: sa.Column[Any]) -> Callable[[Any], Secret[Any] | None]:
    """What stands for the values of a secret column that a projection does not say it reads."""
    name = f"{table_name(column.table)}.{column.name}"
    closed = locked(
        name, "a projection reads it only if it says so.", "Say secrets = True in the projection."
    )
    return lambda value: None if value is None else closed


class Unlocker:
    """Lets the secrets of rows be revealed; rows whose data key is destroyed are left out.

    Truth is asked for the keys after the rows were read, and each time: what is derived on behalf
    of their destruction is derived without them.
    """

    def __init__(self, rows: SecretRows, ring: Keyring) -> None:
        self._rows = rows
        self._ring = ring

    async def __call__(self, rows: list[Row]) -> list[Row]:
        """`rows`, but for those of which nobody can read a secret any more."""
        keys = await self._keys(row for _, row in rows)
        return [(key, row) for key, row in rows if self._unlocked(row, keys)]

    async def related(self, owned: dict[str, list[Any]]) -> None:
        """The same of rows that belong to others, in place."""
        keys = await self._keys(chain.from_iterable(owned.values()))
        for key, rows in owned.items():
            owned[key] = [row for row in rows if self._unlocked(row, keys)]

    async def _keys(self, rows: Iterable[Any]) -> dict[str, SecretKey]:
        ids = {key_id_of(text) for row in rows for _, _, text in self._ciphertexts(row)}
        return await self._ring.keys(ids, fresh=True) if ids else {}

    def _ciphertexts(self, row: Any) -> list[tuple[Secret[Any], str, str]]:
        """(secret, column, ciphertext) of each secret of a row."""
        if isinstance(row, Unreadable):
            return []
        named = [(getattr(row, name), column) for name, column in self._rows.secrets]
        return [(it, column, ciphertext_of(it) or "") for it, column in named if it is not None]

    def _unlocked(self, row: Any, keys: dict[str, SecretKey]) -> bool:
        """Whether a row can be derived from; then its secrets can be revealed."""
        for secret, column, text in self._ciphertexts(row):
            key = keys[key_id_of(text)]
            if key.is_destroyed:
                return False
            place = self._rows.place(partial(getattr, row), column)
            bound(secret, partial(key.unseal, text, place))
        return True


def unlocker_of(model: type[Model], ring: Keyring) -> Unlocker | None:
    """What unlocks rows of `model`, if it has secrets."""
    rows = secrets_of(model)
    return None if rows is None else Unlocker(rows, ring)
