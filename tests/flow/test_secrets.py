"""Secret columns: written and read as values, ciphertext everywhere else, bound to their place."""

from __future__ import annotations

import copy
import json
import pickle
import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks
from polyplane.errors import Conflict, Misconfigured, Refused, SecretDamaged, TooLarge
from polyplane.marks import Secret
from polyplane.model.caller import Caller
from polyplane.truth.noted import write_noted
from polyplane.truth.sagas import Note as SagaNote
from tests.conftest import PlaneOf
from tests.flow.tampering import swaps, tamperings
from tests.flow.things import ODD, by_hand
from tests.flow.vault import MODELS, Account, Note


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """Models with secrets; nothing moves."""
    return await plane_of(models=MODELS, flows=False)


async def tokens(plane: pp.Plane) -> dict[UUID, Any]:
    """What every account reveals, to who acts for nobody."""
    async with plane.read(tenant="") as session:
        return {it.id: it.token.reveal() for it in await session.scalars(sa.select(Account))}


async def test_what_is_written_is_read_and_the_database_has_ciphertext(plane: pp.Plane) -> None:
    async with plane.write(actor="ada", tenant="acme") as tx:
        row = Account(owner_id="ada", token=Secret("kettle"), more=Secret({"a": [1, "ö"]}))
        tx.add(row)
        bare = Account(token=Secret(""))
        tx.add(bare)
        tx.add(Note(place="x|y", n=3, body=Secret(b"\x00\xff")))
    assert row.token.reveal() == "kettle"
    assert (row.tenant_id, bare.tenant_id) == ("acme", "acme")
    async with plane.read(tenant="acme") as session:
        found = {it.id: it for it in await session.scalars(sa.select(Account))}
        again, empty = found[row.id], found[bare.id]
        assert again.token.reveal() == "kettle"
        assert again.more is not None and again.more.reveal() == {"a": [1, "ö"]}
        assert (empty.token.reveal(), empty.more) == ("", None)
        note = await session.get(Note, ("x|y", 3))
        assert note is not None and note.body.reveal() == b"\x00\xff"
    async with plane.write(actor="ada", tenant="acme") as tx:
        got = await tx.get(Account, row.id, for_update=True)
        assert got is not None and got.token.reveal() == "kettle"
        got.token = Secret("pot")
        await tx.flush()
        await tx.session.refresh(got)
        assert got.token.reveal() == "pot"
    [(token, more)] = await by_hand(
        plane, "SELECT token, more_of_it FROM account WHERE owner_id = 'ada'"
    )
    assert token.startswith("v1|") and more.startswith("v1|")
    assert "pot" not in token


async def test_any_value_comes_back_as_it_was(plane: pp.Plane) -> None:
    rng = random.Random(6)
    texts = ["".join(chr(rng.randrange(0xD800)) for _ in range(rng.randrange(40))) for _ in ODD]
    values: list[Any] = [*ODD, *texts, "\0", "x" * (256 << 10), "🙂" * 65_536]
    values += [b"", rng.randbytes(256 << 10), 0, -1.5, [], {"": None}, True, {"n": 2**63}]
    async with plane.write(actor="test") as tx:
        rows = [Account(token=Secret("-"), more=Secret(value)) for value in values]
        tx.add_all(rows)
    async with plane.read() as session:
        found = {it.id: it.more for it in await session.scalars(sa.select(Account))}
    assert [more.reveal() for row in rows if (more := found[row.id])] == values
    for value, error in (
        ("x" * (1 << 20), TooLarge),
        ("\ud800", Refused),
        (object(), Refused),
        (2**64, Refused),
    ):
        with pytest.raises(error) as caught:
            async with plane.write(actor="test") as tx:
                tx.add(Account(token=Secret(value)))
        assert caught.value.__cause__ is None
    assert len(await tokens(plane)) == len(values)


async def test_a_secret_shows_itself_to_nobody(plane: pp.Plane) -> None:
    async with plane.write(actor="test") as tx:
        row = Account(token=Secret("kettle"))
        tx.add(row)
        fresh = row.token
    for secret in (fresh, row.token):
        shown = [repr(secret), str(secret), f"{secret:>20}", repr([secret]), f"{secret!a}"]
        assert not any("kettle" in it for it in shown)
        assert copy.deepcopy(secret) is secret
        for write in (json.dumps, orjson.dumps, pickle.dumps):
            with pytest.raises(TypeError):
                write(secret)
        assert "kettle" not in json.dumps(secret, default=str)
        assert not hasattr(secret, "__dict__")
        assert secret != Secret("kettle")
    for wrong in (None, fresh):
        with pytest.raises(TypeError):
            Secret(wrong)


async def test_only_a_row_gives_a_secret_to_the_database(plane: pp.Plane) -> None:
    async with plane.write(actor="test") as tx:
        row = Account(token=Secret("kettle"))
        tx.add(row)
    secret = Secret("kettle")
    wrong: list[Any] = [
        sa.insert(Account).values(token=secret),
        sa.update(Account).values(token=secret),
        sa.select(Account).where(Account.token == secret),
        sa.select(Account).where(Account.token == "kettle"),
    ]
    for query in wrong:
        with pytest.raises(Refused, match="secret column"):
            async with plane.write(actor="test") as tx:
                await tx.execute(query)
    with pytest.raises(Refused, match="token is secret, and was given a str") as caught:
        async with plane.write(actor="test") as tx:
            tx.add(Account(token="kettle"))
    assert caught.value.field == "token"
    async with plane.read() as session:
        [alone] = await session.scalars(sa.select(Account.token))
        with pytest.raises(Refused, match="without the row"):
            alone.reveal()
        async for it in await session.stream_scalars(sa.select(Account)):
            with pytest.raises(Refused, match="without the row"):
                it.token.reveal()


async def test_a_secret_goes_with_its_row(plane: pp.Plane) -> None:
    """What it is bound to may change, and it may be copied: it is encrypted anew."""
    async with plane.write(actor="test", tenant="acme") as tx:
        row = Account(owner_id="ada", token=Secret("kettle"), more=Secret([1]))
        tx.add(row)
        other = Account(token=row.token, more=row.more)
        tx.add(other)
    before = await by_hand(plane, "SELECT token, more_of_it FROM account")
    async with plane.write(actor="test", tenant="") as tx:  # nobody else moves it
        got = await tx.get(Account, row.id)
        assert got is not None
        got.id, got.owner_id, got.tenant_id = uuid4(), "bob", "umbrella"
        got.more = None
        second = await tx.get(Account, other.id)
        assert second is not None
        second.token = got.token
    async with plane.write(actor="test", tenant="") as tx:
        got.name = "another"
        tx.add(got)  # what is not secret changes no ciphertext
    stored = await by_hand(plane, "SELECT token FROM account WHERE id = %s", got.id)
    async with plane.write(actor="test", tenant="") as tx:
        same = await tx.get(Account, got.id)
        assert same is not None and same.more is None
        same.name, same.token = "third", same.token
    assert await by_hand(plane, "SELECT token FROM account WHERE id = %s", got.id) == stored
    assert {*await tokens(plane)} == {got.id, other.id}
    assert {*(await tokens(plane)).values()} == {"kettle"}
    after = await by_hand(plane, "SELECT token, more_of_it FROM account")
    assert not {token for token, _ in before} & {token for token, _ in after}


async def test_what_was_not_written_there_is_refused(plane: pp.Plane) -> None:
    """Swaps of rows, columns and tenants, and changes of single characters."""
    async with plane.write(actor="test", tenant="acme") as tx:
        tx.add_all([Account(token=Secret(f"t{n}"), more=Secret(f"m{n}")) for n in range(4)])
    rng = random.Random(7)
    assert await swaps(plane, rng, 12) == {"refused": 12, "read": 0}
    assert await tamperings(plane, rng, 60) == {"refused": 60, "read": 0}
    for odd in ("", "v1", "v1|||", "v2|a|b|c", "kettle", f"v1|{uuid4()}|AAAAAAAAAAAAAAAA|AAAA"):
        await by_hand(plane, "UPDATE account SET token = %s", odd)
        async with plane.read(tenant="acme") as session:
            row = (await session.scalars(sa.select(Account).limit(1))).one()
            with pytest.raises(SecretDamaged):
                row.token.reveal()
            assert row.more is not None and row.more.reveal()[0] == "m"


def test_a_ciphertext_has_one_form_only() -> None:
    """Bits of base64 that mean nothing are not to be changed unnoticed."""
    from polyplane.security.cipher import parse, seal, unseal

    for size in range(1, 5):
        text = seal("x" * size, "id", bytes(range(32)), b"here")
        head, body = text.rsplit("|", 1)
        raw = urlsafe_b64decode(body + "==")
        assert unseal(parse(text), bytes(range(32)), b"here") == "x" * size
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
        for last in set(alphabet) - {body[-1]}:
            with pytest.raises(SecretDamaged):
                unseal(parse(f"{head}|{body[:-1]}{last}"), bytes(range(32)), b"here")
        assert urlsafe_b64encode(raw).rstrip(b"=").decode() == body


async def test_one_look_up_for_all_rows_of_a_statement(
    plane: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plane.write(actor="test") as tx:
        tx.add_all([Account(owner_id=f"p{n}", token=Secret(f"t{n}")) for n in range(100)])
    ring = plane.opened.stores.ring
    assert ring is not None
    asked: list[Any] = []
    rows = ring.database.rows

    async def counted(*args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        return await rows(*args, **kwargs)

    monkeypatch.setattr(ring.database, "rows", counted)
    monkeypatch.setattr("polyplane.truth.keyring.FRESH_S", -1.0)
    assert len({*(await tokens(plane)).values()}) == 100
    assert len(asked) == 1
    assert await by_hand(plane, "SELECT count(*), count(DISTINCT person) FROM polyplane.data_keys")
    assert len(await tokens(plane)) == 100
    assert len(asked) == 2


async def test_a_transaction_that_is_undone_leaves_no_key(plane: pp.Plane) -> None:
    with pytest.raises(Conflict):
        async with plane.write(actor="test") as tx:
            key = uuid4()
            tx.add(Account(id=key, token=Secret("a")))
            await tx.flush()
            assert (await tx.scalars(sa.select(Account))).one().token.reveal() == "a"
            tx.session.expunge_all()
            tx.add(Account(id=key, token=Secret("b")))
    assert await by_hand(plane, "SELECT count(*) FROM polyplane.data_keys") == [(0,)]


async def test_steps_of_sagas_write_them_too(plane: pp.Plane) -> None:
    async def work(tx: pp.Write) -> SagaNote:
        tx.add(Account(token=Secret("kettle")))
        return SagaNote("SELECT 1", {})

    caller = Caller("saga", "acme")
    await write_noted(plane.opened.database, work, caller=caller, epoch=plane.opened.epoch)
    assert [*(await tokens(plane)).values()] == ["kettle"]


def test_a_key_that_nobody_knows_before_is_refused() -> None:
    class Base(pp.Model):
        __abstract__ = True
        metadata = pp.metadata()

    class Counted(Base):
        __tablename__ = "counted"
        id: Mapped[int] = mapped_column(primary_key=True)
        token: Mapped[Secret[str]] = marks.secret()

    class Weighed(Base):
        __tablename__ = "weighed"
        id: Mapped[float] = mapped_column(primary_key=True)
        token: Mapped[Secret[str]] = marks.secret()

    for model, why in ((Counted, "only after it is written"), (Weighed, "a key of the type")):
        with pytest.raises(Misconfigured, match=why):
            pp.Plane(models=[model], home="nowhere")
