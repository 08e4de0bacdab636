"""What follows from secrets: nothing, unless a projection says so; and nothing is left of them."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

import polyplane as pp
from polyplane.errors import SecretDestroyed
from polyplane.marks import Secret
from polyplane.model.scope import Scope
from tests.conftest import PlaneOf
from tests.flow.things import becomes
from tests.flow.vault import (
    MODELS,
    PROJECTIONS,
    Account,
    AccountHints,
    AccountNames,
    AccountSearch,
    Diaries,
    Diary,
    Page,
    Prying,
)

GONE_S = 1.0
"""Within which a destroyed key is of no use in any process."""


async def account(plane: pp.Plane, token: str, owner: str | None = None) -> Account:
    """A new one, settled."""
    async with plane.write(actor="test") as tx:
        row = Account(owner_id=owner, name=f"name of {owner}", token=Secret(token))
        tx.add(row)
    await plane.settled(tx.token)
    return row


async def read(plane: pp.Plane, key: UUID) -> str:
    """What is revealed of an account."""
    async with plane.read() as session:
        row = await session.get(Account, key)
        assert row is not None
        return row.token.reveal()


async def test_projections_read_secrets_only_if_they_say_so(plane_of: PlaneOf) -> None:
    plane = await plane_of(models=MODELS, projections=[*PROJECTIONS, Prying])
    async with plane.write(actor="test") as tx:
        row = Account(name="ada", token=Secret("kettle-1234"))
        tx.add(row)
    await plane.settled(tx.token, AccountNames, AccountHints)
    assert await plane.acting(pp.Caller("test"))[AccountNames].get(row.id) == {
        "name": "ada",
        "token": True,
    }
    [hit] = await plane.acting(pp.Caller("test"))[AccountHints].get([row.id])
    assert hit.text == "...1234"

    async def parked() -> list[str]:
        letters = await plane.opened.journal.dead.letters("prying", keys=None, limit=10)
        return [letter.error for letter in letters]

    await becomes(lambda: _any(parked()), True, within_s=10)
    [error] = await parked()
    assert "Refused" in error and "public.account.token" in error
    assert "kettle" not in error


async def _any(found: object) -> bool:
    return bool(await found)  # type: ignore[misc]


async def test_destruction_takes_what_follows_and_the_rest_stays(plane_of: PlaneOf) -> None:
    plane = await plane_of(models=MODELS, projections=PROJECTIONS)
    ada, bob = await account(plane, "ada-1111", "ada"), await account(plane, "bob-2222", "bob")
    async with plane.write(actor="test") as tx:
        diary = Diary(title="mine")
        tx.add(diary)
        await tx.flush()
        tx.add(Page(owner_id="ada", diary_id=diary.id, text=Secret("four")))
        tx.add(Page(owner_id="bob", diary_id=diary.id, text=Secret("fives")))
    await plane.settled(tx.token)
    assert await plane.acting(pp.Caller("test"))[Diaries].get(diary.id) == ["mine", [4, 5]]
    drift = await plane.verify(deep=True)
    assert drift.clean
    other = pp.Plane(models=MODELS, settings=plane.settings, flows=False)
    async with other:
        assert await read(other, ada.id) == "ada-1111"
        held = ada.token
        told = await plane.keys.destroy(person="ada", dry=True)
        assert (told.keys, told.rows["public.account"]) == (1, 1)
        gone_at = time.monotonic()
        destroyed = await plane.keys.destroy(person="ada")
        assert (destroyed.keys, destroyed.rows) == (1, {"public.account": 1, "public.diary": 1})
        for secret in (held, ada.token):
            with pytest.raises(SecretDestroyed):
                secret.reveal()
        with pytest.raises(SecretDestroyed):
            await read(plane, ada.id)
        while time.monotonic() < gone_at + GONE_S:
            try:
                await read(other, ada.id)
            except SecretDestroyed:
                break
        with pytest.raises(SecretDestroyed):
            await read(other, ada.id)
        assert await read(other, bob.id) == "bob-2222"
    await plane.caught_up()
    assert [
        hit.text
        for hit in await plane.acting(pp.Caller("test"))[AccountHints].get([ada.id, bob.id])
    ] == ["...2222"]
    assert await plane.acting(pp.Caller("test"))[Diaries].get(diary.id) == ["mine", [5]]
    assert await plane.acting(pp.Caller("test"))[AccountNames].get(ada.id) == {
        "name": "name of ada",
        "token": True,
    }
    drift = await plane.verify(deep=True)
    assert drift.clean, drift.parts
    again = await account(plane, "ada-3333", "ada")  # with a key of its own
    assert await read(plane, again.id) == "ada-3333"
    with pytest.raises(SecretDestroyed):
        await read(plane, ada.id)
    assert (await plane.keys.destroy(tenant="default")).keys == 3
    assert (await plane.keys.list()).destroyed == 3
    drift = await plane.verify()
    assert drift.clean and await plane.acting(pp.Caller("test"))[Diaries].get(diary.id) == [
        "mine",
        [],
    ]


async def test_digests_over_secrets_are_keyed(plane_of: PlaneOf) -> None:
    plane = await plane_of(models=MODELS, projections=PROJECTIONS)
    first = await account(plane, "-1111")
    targets = plane.opened.targets
    [stamp] = await targets["account_hints"].store.stamps(
        targets["account_hints"].collection, [str(first.id)]
    )
    plain = targets["account_hints"].deriver
    unkeyed = type(plain)(AccountHints(), None)  # type: ignore[call-arg]
    rows = [
        (
            str(first.id),
            type("Row", (), {"token": Secret("-1111"), "tenant_id": "default", "owner_id": None})(),
        )
    ]
    assert [*plain.digests(rows)] == [(str(first.id), stamp.digest)]
    assert [*unkeyed.digests(rows)] != [*plain.digests(rows)]
    assert "keyed by" in plain.definition
    assert "keyed by" not in targets["account_names"].deriver.definition
    before = plain.definition
    await plane.keys.rotate()
    await plane.close()
    await plane.open()
    assert plane.opened.targets["account_hints"].deriver.definition == before
    drift = await plane.verify()
    assert drift.clean


def _forms(text: str) -> Iterator[bytes]:
    """How a text may lie in a file."""
    raw = text.encode()
    yield from (raw, text.encode("utf-16-le"), raw.hex().encode(), raw.hex().upper().encode())
    for start in range(3):  # base64 of it, wherever in a longer text it begins
        coded = base64.b64encode(b"x" * start + raw)[4 if start else 0 :]
        yield coded[: len(coded) // 4 * 4 - 4]


async def test_no_file_of_a_home_holds_a_secret(place: Path) -> None:
    """Engines' files, WAL, logs, streams, Lance's and Valkey's: written, updated, deleted, read."""
    settings = pp.Settings.load(environ={}, home=place / "home")
    secrets = [f"{uuid4().hex}-kettle-{n}" for n in range(12)]
    canary = f"canary-{uuid4().hex}"
    shown = [AccountNames, AccountSearch]
    plane = pp.Plane(models=MODELS, projections=shown, settings=settings, blobs=True)
    async with plane:
        async with plane.write(actor="test") as tx:
            rows = [
                Account(name=canary, token=Secret(it), more=Secret({"x": it})) for it in secrets
            ]
            tx.add_all(rows)
        async with plane.write(actor="test") as tx:
            for row, secret in zip(rows[:4], secrets[4:], strict=False):
                found = await tx.get(Account, row.id)
                assert found is not None
                found.token = Secret(secret)
        async with plane.write(actor="test") as tx:
            for row in rows[8:]:
                await tx.delete(await tx.get(Account, row.id) or row)
        await plane.settled(tx.token)
        assert (await plane.verify()).clean
        async with plane.read() as session:
            found_all = await session.scalars(sa.select(Account))
            assert len([it.token.reveal() for it in found_all]) == 8
        collection = plane.opened.targets["account_names"].collection
        await plane.cache.get(collection, Scope.everything, str(rows[0].id))
    files = [path for path in place.rglob("*") if path.is_file()]
    contents = {path: path.read_bytes() for path in files}
    assert any(canary.encode() in content for content in contents.values())
    assert {"engines"} <= {path.relative_to(place / "home").parts[0] for path in files}
    found_in = {
        str(path.relative_to(place))
        for path, content in contents.items()
        for secret in secrets
        for form in _forms(secret)
        if form in content
    }
    assert found_in == set()
    assert len(contents) > 100
