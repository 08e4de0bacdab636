"""Sealing on a real PostgreSQL: every row once, one chain, whatever dies; and every tampering."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Any

import pytest

import polyplane as pp
from polyplane.errors import Fenced, Refused
from polyplane.flow import sealing
from polyplane.flow.seal_places import FILE_NAME, SealFile, seals_in
from polyplane.flow.sealing import Sealer
from polyplane.model.caller import Caller
from polyplane.reconcile.auditing import prove_lines
from polyplane.reconcile.handed import Handed
from polyplane.runtime.sealing import sealing_key, trusted_keys
from polyplane.security.sealing import Seal
from polyplane.truth.audit import Trail
from tests.conftest import PlaneOf
from tests.flow.audit_tampering import KINDS
from tests.flow.books import put_back, read_books
from tests.flow.things import Killed, Proxy, becomes, by_hand, connect


def sealer_of(plane: pp.Plane, *, limit: int = 3, trail: Any = None) -> Sealer:
    """One that seals when it is asked to."""
    return Sealer(
        trail or Trail(plane.opened.database),
        plane.opened.journal,
        sealing_key(plane.settings),
        trusted_keys(plane.settings),
        [SealFile(plane.settings.home / FILE_NAME)],
        epoch=lambda: plane.opened.epoch,
        limit=limit,
    )


async def note(plane: pp.Plane, count: int, actor: str = "ada") -> None:
    """So many lines, each in a transaction of its own."""
    for n in range(count):
        await plane.audit(Caller(actor), "door.opened", "door", str(n))


async def whole(plane: pp.Plane, rows: int) -> None:
    """Every row is sealed and proven."""
    found = await plane.audit.verify()
    assert found.findings == []
    assert (found.rows, found.waiting) == (rows, 0)
    assert found.head == found.outside


async def test_every_committed_row_is_sealed_once_in_pages(plane_of: PlaneOf) -> None:
    plane = await plane_of(flows=False)
    sealer = sealer_of(plane)
    await sealer.round()
    assert await by_hand(plane, "SELECT count(*) FROM polyplane.audit_seal") == [(0,)]
    await note(plane, 10)
    async with await connect(plane) as late:
        await late.set_autocommit(False)
        await late.execute(
            "INSERT INTO polyplane.audit (at, tenant, actor, action, resource_type, hash)"
            " SELECT at, tenant, 'late', action, resource_type, hash FROM polyplane.audit LIMIT 1"
        )
        await note(plane, 2)
        await sealer.round()
        await whole(plane, 12)
        await late.commit()
    with pytest.raises(pp.PolyplaneError):
        async with plane.write(actor="ada") as tx:
            tx.audit("door.opened", "door")
            await tx.flush()
            raise pp.Refused("No.")
    await note(plane, 1)
    await sealer.round()
    found = await plane.audit.verify()
    assert (found.rows, found.waiting) == (14, 0)
    assert found.kinds == {"edited": 1}  # the late one has the hash of another
    lines = [line async for page in seals_in(plane.settings.home / FILE_NAME) for line in page]
    assert [Seal.parse(it).rows for it in lines] == [3, 3, 3, 3, 2]
    assert [Seal.parse(it).pages for it in lines] == [1, 2, 3, 0, 0]


async def test_a_plane_seals_by_itself_and_once_more_when_it_closes(plane_of: PlaneOf) -> None:
    plane = await plane_of()
    await note(plane, 3)

    async def sealed_rows() -> Any:
        return (await plane.audit.verify()).rows

    await becomes(sealed_rows, 3, within_s=10)
    await note(plane, 2)
    await plane.close()
    plane = await plane_of(settings=plane.settings, flows=False)
    await whole(plane, 5)
    assert (plane.settings.home / "audit.key").stat().st_mode & 0o777 == 0o600


async def test_two_sealers_never_fork_the_chain(plane_of: PlaneOf) -> None:
    plane = await plane_of(flows=False)
    await note(plane, 3)
    trail, both = Trail(plane.opened.database), asyncio.Barrier(2)

    async def unsealed(*args: Any, **kwargs: Any) -> Any:
        found = await trail.unsealed(*args, **kwargs)
        await both.wait()  # now both would make the same seal
        return found

    blind = [sealer_of(plane, trail=Proxy(trail, unsealed=unsealed)) for _ in range(2)]
    found = await asyncio.gather(*(it.seal() for it in blind), return_exceptions=True)
    assert sorted(map(type, found), key=str) == [bool, Fenced]

    async def seal(it: Sealer) -> None:
        for _ in range(20):
            with suppress(Fenced, Refused):
                await it.round()

    sealers = [sealer_of(plane, limit=2) for _ in range(2)]
    await asyncio.gather(*map(seal, sealers), note(plane, 20), note(plane, 20, "bob"))
    await sealers[0].round()
    await whole(plane, 43)


@pytest.mark.parametrize("dies", ["audit.signed", "audit.sealed", "audit.exported"])
async def test_who_dies_while_sealing_leaves_it_to_the_next(
    plane_of: PlaneOf, dies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = await plane_of(flows=False)
    await note(plane, 8)

    def step(name: str) -> None:
        if name == dies:
            raise Killed

    monkeypatch.setattr(sealing, "step", step)
    with pytest.raises(Killed):
        await sealer_of(plane).round()
    monkeypatch.undo()
    await sealer_of(plane).round()
    await whole(plane, 8)


async def test_a_line_that_was_written_by_halves_is_written_again(plane_of: PlaneOf) -> None:
    plane = await plane_of(flows=False)
    await note(plane, 7)
    await sealer_of(plane).round()
    path = plane.settings.home / FILE_NAME
    text = path.read_bytes()
    for length in (0, 1, len(text) // 2, len(text) - 1):
        path.write_bytes(text[:length])
        await sealer_of(plane).round()
        assert path.read_bytes() == text
    assert (await prove_lines(seals_in(path), trusted_keys(plane.settings))).is_whole


async def test_a_place_that_knows_more_than_the_database_ends_the_sealing(
    plane_of: PlaneOf,
) -> None:
    plane = await plane_of(flows=False)
    await note(plane, 7)
    await sealer_of(plane).round()
    async with await connect(plane) as eve:
        await eve.execute("ALTER TABLE polyplane.audit_seal DISABLE TRIGGER USER")
        await eve.execute("DELETE FROM polyplane.audit_seal WHERE number = 3")
    await note(plane, 1)
    with pytest.raises(Refused, match="tail was cut off"):
        await sealer_of(plane).round()
    assert "forked" in (await plane.audit.verify()).kinds  # it was sealed, but not exported
    path = plane.settings.home / FILE_NAME
    path.rename(path.with_suffix(".evidence"))
    await sealer_of(plane).round()
    assert (await plane.audit.verify()).is_whole
    found = await plane.audit.verify(seals=path.with_suffix(".evidence"))
    assert found.kinds == {"forked": 1}


async def test_a_database_that_is_restored_elsewhere_is_sealed_on(plane_of: PlaneOf) -> None:
    plane = await plane_of(flows=False)
    await note(plane, 7)
    await sealer_of(plane).round()
    await by_hand(plane, "UPDATE polyplane.identity SET system_identifier = 'another'")
    await note(plane, 7)
    await sealer_of(plane).round()
    await whole(plane, 14)


async def test_tampering_is_found_on_a_real_database(plane_of: PlaneOf) -> None:
    """A sample: `python -m tests.crash.audit` does a thousand."""
    plane = await plane_of(flows=False)
    for n in range(12):
        await note(plane, n % 4 + 1, actor=f"user:{n}")
        await sealer_of(plane).round()
    chance = Random(7)
    books = await read_books(plane)
    for kind, tamper in KINDS.items():
        for _ in range(3):
            tampered = books.copy()
            tamper(tampered, chance)
            await put_back(plane, tampered)
            assert (await plane.audit.verify()).found > 0, kind
    await put_back(plane, books)
    await whole(plane, len(books.rows))


async def test_lines_are_found_and_handed_out_with_proofs(plane_of: PlaneOf) -> None:
    plane = await plane_of(flows=False)
    await note(plane, 5)
    await note(plane, 5, actor="bob")
    await sealer_of(plane).round()
    await note(plane, 1, actor="bob")
    found = await plane.audit.search(actor="bob", action="door.*", limit=4)
    assert [it.resource_id for it in found] == ["0", "4", "3", "2"]
    rest = await plane.audit.search(actor="bob", before=found[-1].seq, limit=4)
    assert [it.resource_id for it in rest] == ["1", "0"]
    assert await plane.audit.search(resource_id="3", tenant="other") == []
    assert len(await plane.audit.search(since=found[0].at)) == 1
    lines = [line async for line in plane.audit.export(actor="bob")]
    handed = Handed(trusted_keys(plane.settings))
    handed.add(lines)
    assert (handed.done.rows, handed.done.waiting, handed.done.findings) == (6, 1, [])
    for n, line in enumerate(lines):
        forged = [*lines[:n], line.replace(b'"bob"', b'"eve"'), *lines[n + 1 :]]
        handed = Handed(trusted_keys(plane.settings))
        handed.add(forged)
        is_sealed = b'"proof"' in line
        assert bool(handed.done.found) == is_sealed, line


async def test_an_act_that_fails_has_left_two_lines(plane_of: PlaneOf) -> None:
    plane = await plane_of(flows=False)
    with pytest.raises(pp.NotFound):
        async with plane.audit.act(Caller("ops"), "saga.cancelled", "saga", "1"):
            raise pp.NotFound("There is none.")
    told = [(it.action, it.outcome, it.detail) for it in await plane.audit.search()]
    assert told == [
        ("saga.cancelled", "failed", {"error": "NotFound"}),
        ("saga.cancelled", "asked", None),
    ]
