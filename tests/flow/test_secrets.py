"""Secret columns: written and read as values, ciphertext everywhere else, bound to their place."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

import polyplane as pp
from polyplane.marks import Secret
from tests.conftest import PlaneOf
from tests.flow.things import by_hand
from tests.flow.vault import MODELS, Account, Note


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """Models with secrets; nothing moves."""
    return await plane_of(models=MODELS, flows=False)


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
