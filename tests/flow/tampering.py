"""Ciphertexts changed and swapped behind the plane's back: each must be refused."""

from __future__ import annotations

import random
from typing import Final, Literal
from uuid import UUID

import psycopg
import sqlalchemy as sa

import polyplane as pp
from polyplane.errors import SecretDamaged
from tests.flow.things import connect
from tests.flow.vault import Account

Outcome = dict[Literal["refused", "read"], int]
COLUMNS: Final = {"token": "token", "more_of_it": "more"}
_ALPHABET: Final = "ABCabc019-_|=+/ "


async def tamperings(plane: pp.Plane, rng: random.Random, count: int) -> Outcome:
    """Single characters changed, added or left out; pieces cut off; parts of two mixed."""
    outcome: Outcome = {"refused": 0, "read": 0}
    async with await connect(plane) as hand:
        stored = await _stored(hand)
        for _ in range(count):
            key, column = rng.choice(list(stored))
            text, other = stored[key, column], stored[rng.choice(list(stored))]
            found = text
            while found == text:
                found = _changed(rng, text, other)
            await _judge(plane, hand, {(key, column): found}, stored, outcome)
    return outcome


async def swaps(plane: pp.Plane, rng: random.Random, count: int) -> Outcome:
    """A whole ciphertext put into another row, another column or another tenant."""
    outcome: Outcome = {"refused": 0, "read": 0}
    async with await connect(plane) as hand:
        stored = await _stored(hand)
        places = list(stored)
        for n in range(count):
            key, column = rng.choice(places)
            if n % 3 == 2:
                await _move(plane, hand, key, column, outcome)
                continue
            others = [it for it in places if (it[0] != key, it[1] == column) == (n % 3 == 0,) * 2]
            others = others or [it for it in places if it != (key, column)]
            await _judge(plane, hand, {(key, column): stored[rng.choice(others)]}, stored, outcome)
    return outcome


def _changed(rng: random.Random, text: str, other: str) -> str:
    at = rng.randrange(len(text))
    match rng.randrange(5):
        case 0:
            return text[:at] + rng.choice(_ALPHABET) + text[at + 1 :]
        case 1:
            return text[:at] + rng.choice(_ALPHABET) + text[at:]
        case 2:
            return text[:at] + text[at + 1 :]
        case 3:
            return text[:at]
        case _:
            part = rng.randrange(4)
            mixed = text.split("|")
            mixed[part] = other.split("|")[part]
            return "|".join(mixed)


async def _stored(
    hand: psycopg.AsyncConnection[tuple[object, ...]],
) -> dict[tuple[UUID, str], str]:
    cursor = await hand.execute("SELECT id, token, more_of_it FROM account")
    return {
        (UUID(str(key)), column): str(text)
        for key, *texts in await cursor.fetchall()
        for column, text in zip(COLUMNS, texts, strict=True)
        if text is not None
    }


async def _set(
    hand: psycopg.AsyncConnection[tuple[object, ...]], key: UUID, column: str, text: str
) -> None:
    await hand.execute(f"UPDATE account SET {column} = %s WHERE id = %s".encode(), (text, key))


async def _judge(
    plane: pp.Plane,
    hand: psycopg.AsyncConnection[tuple[object, ...]],
    changes: dict[tuple[UUID, str], str],
    stored: dict[tuple[UUID, str], str],
    outcome: Outcome,
) -> None:
    for (key, column), text in changes.items():
        await _set(hand, key, column, text)
        outcome["refused" if await _is_refused(plane, hand, key, column) else "read"] += 1
        await _set(hand, key, column, stored[key, column])
        assert not await _is_refused(plane, hand, key, column)


async def _move(
    plane: pp.Plane,
    hand: psycopg.AsyncConnection[tuple[object, ...]],
    key: UUID,
    column: str,
    outcome: Outcome,
) -> None:
    """The whole row to another tenant, and back."""
    cursor = await hand.execute("SELECT tenant_id FROM account WHERE id = %s", (key,))
    [(tenant,)] = await cursor.fetchall()
    move = "UPDATE account SET tenant_id = %s WHERE id = %s"
    await hand.execute(move, ("elsewhere", key))
    outcome["refused" if await _is_refused(plane, hand, key, column) else "read"] += 1
    await hand.execute(move, (tenant, key))
    assert not await _is_refused(plane, hand, key, column)


async def _is_refused(
    plane: pp.Plane,
    hand: psycopg.AsyncConnection[tuple[object, ...]],
    key: UUID,
    column: str,
) -> bool:
    """By the tenant that has the row now: no other sees it."""
    cursor = await hand.execute("SELECT tenant_id FROM account WHERE id = %s", (key,))
    [(tenant,)] = await cursor.fetchall()
    async with plane.read(tenant=str(tenant)) as session:
        row = (await session.scalars(sa.select(Account).where(Account.id == key))).one()
        try:
            getattr(row, COLUMNS[column]).reveal()
        except SecretDamaged:
            return True
        return False
