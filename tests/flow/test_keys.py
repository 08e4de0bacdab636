"""Keys: where they come from, rotation while everything runs, and what is lost with them."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import polyplane as pp
from polyplane.errors import Misconfigured, SecretDamaged, SecretDestroyed, Unavailable
from polyplane.marks import Secret
from polyplane.model.wrapping import Wrapped
from polyplane.security.keks import KeySet
from polyplane.security.key_file import KeyFile
from polyplane.truth import secret_keys
from tests.conftest import PlaneOf
from tests.flow.things import by_hand, connect
from tests.flow.vault import MODELS, Account

OLD = base64.b64encode(secrets.token_bytes(32)).decode()
NEW = secrets.token_hex(32)


async def write(plane: pp.Plane, count: int, owner: str = "p") -> list[Account]:
    """Accounts of as many people."""
    async with plane.write(actor="test") as tx:
        rows = [Account(owner_id=f"{owner}{n}", token=Secret(f"{owner}{n}")) for n in range(count)]
        tx.add_all(rows)
    return rows


async def tokens(plane: pp.Plane) -> dict[str | None, str]:
    """What every account reveals, by its owner."""
    async with plane.read() as session:
        found = await session.scalars(sa.select(Account))
        return {it.owner_id: it.token.reveal() for it in found}


def keyed(settings: pp.Settings, keys: str) -> pp.Settings:
    """The same settings with keys from the environment."""
    loaded = pp.Settings.load(environ={"POLYPLANE_ENCRYPTION_KEYS": keys}, home=settings.home)
    return settings.model_copy(update={"encryption_keys": loaded.encryption_keys})


async def test_rotation_under_writes_loses_nothing(plane_of: PlaneOf) -> None:
    """Two planes write on while a third wraps every data key anew, twice."""
    plane = await plane_of(models=MODELS, flows=False)
    other = await plane_of(models=MODELS, flows=False)
    await write(plane, 450, "old")
    written, done = {f"old{n}" for n in range(450)}, asyncio.Event()

    async def writing(plane: pp.Plane, name: str) -> None:
        for n in range(10_000):
            if done.is_set():
                return
            await write(plane, 3, f"{name}{n}-")
            written.update(f"{name}{n}-{i}" for i in range(3))
            if n % 4 == 0:
                assert await tokens(plane)

    heard: list[tuple[int, int]] = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writing(plane, "a"))
        tasks.create_task(writing(other, "b"))
        first = await plane.keys.rotate(lambda now, of: heard.append((now, of)))
        for _ in range(5):  # what was committed meanwhile with the older one comes first
            if (second := await other.keys.rotate()).made:
                break
        done.set()
    assert first.made and second.made and first.primary != second.primary
    assert first.wrapped >= 450 and heard[0][0] == 0 and heard[-1][0] == first.wrapped
    for reader in (plane, other):
        assert await tokens(reader) == {name: name for name in written}
    listed = await plane.keys.list()
    assert listed.keys[0].id == second.primary and listed.keys[0].primary
    assert len(listed.keys) == 3
    late = await plane.keys.rotate()  # what was wrapped with an older one by who did not know yet
    if not late.made:
        assert late.primary == second.primary
    assert await by_hand(
        plane, "SELECT count(*) FROM polyplane.data_keys WHERE kek <> %s", late.primary
    ) == [(0,)]


async def test_an_interrupted_rotation_is_gone_on_with(
    plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = await plane_of(models=MODELS, flows=False)
    await write(plane, 250)
    rewrap, calls = secret_keys.rewrap, 0

    async def dies(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise asyncio.CancelledError
        await rewrap(*given)

    with monkeypatch.context() as patch, pytest.raises(asyncio.CancelledError):
        patch.setattr(secret_keys, "rewrap", dies)
        await plane.keys.rotate()
    assert len(await tokens(plane)) == 250
    by_key = sorted(key.keys for key in (await plane.keys.list()).keys)
    assert by_key == [50, 200]
    again = await plane.keys.rotate()
    assert (again.made, again.wrapped) == (False, 50)
    assert [key.keys for key in (await plane.keys.list()).keys if key.primary] == [250]


async def test_old_keys_decrypt_only_and_are_needed_until_nothing_is_wrapped_with_them(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    plane = await plane_of(models=MODELS, flows=False, settings=keyed(own_settings, f"a:{OLD}"))
    await write(plane, 2, "old")
    await plane.close()
    both = keyed(own_settings, f"b:{NEW},a:{OLD}")
    plane = await plane_of(models=MODELS, flows=False, settings=both)
    await write(plane, 1, "new")
    assert len(await tokens(plane)) == 3
    rows = await by_hand(plane, "SELECT kek, count(*) FROM polyplane.data_keys GROUP BY 1")
    assert dict(rows) == {"a": 2, "b": 1}
    await plane.close()
    plane = await plane_of(models=MODELS, flows=False, settings=keyed(own_settings, f"b:{NEW}"))
    with pytest.raises(Misconfigured, match="'a' is missing"):
        await tokens(plane)
    await plane.close()
    plane = await plane_of(models=MODELS, flows=False, settings=both)
    assert (await plane.keys.rotate()).wrapped == 2
    await plane.close()
    plane = await plane_of(models=MODELS, flows=False, settings=keyed(own_settings, f"b:{NEW}"))
    assert len(await tokens(plane)) == 3
    assert not (own_settings.home / "keys.json").exists()
    await plane.close()
    forged = keyed(own_settings, f"b:{OLD}")  # another key of the same name
    plane = await plane_of(models=MODELS, flows=False, settings=forged)
    with pytest.raises(SecretDamaged):
        await tokens(plane)


async def test_keys_that_are_lost_are_not_made_anew(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    plane = await plane_of(models=MODELS, flows=False)
    await write(plane, 1)
    await plane.close()
    path = own_settings.home / "keys.json"
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text(encoding="utf-8")
    path.unlink()
    with pytest.raises(Misconfigured, match="are lost"):
        await plane.open()
    assert not path.exists()
    fake = base64.b64encode(b"x" * 32).decode()
    for bad, why in (
        ("{}", "holds no encryption keys"),
        (json.dumps({"primary": "a", "keys": {"b": OLD}}), "to be the primary"),
        (json.dumps({"primary": "a", "keys": {"a": fake}}), "placeholder"),
    ):
        path.write_text(bad, encoding="utf-8")
        path.chmod(0o600)
        with pytest.raises(Misconfigured, match=why):
            await plane.open()
    path.write_text(text, encoding="utf-8")
    path.chmod(0o640)
    with pytest.raises(Misconfigured, match="Others may read"):
        await plane.open()
    path.chmod(0o600)
    await plane.open()
    assert await tokens(plane) == {"p0": "p0"}


async def test_a_placeholder_is_refused_at_the_start(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    """That of the seed, too, though no model here has secrets."""
    seed = {"ATOM_OAUTH_ENCRYPTION_KEY": "your-32-character-encryption-key-here"}
    loaded = pp.Settings.load(environ=seed, home=own_settings.home)
    update = {"encryption_keys": loaded.encryption_keys}
    with pytest.raises(Misconfigured, match="placeholder"):
        await plane_of(flows=False, settings=own_settings.model_copy(update=update))
    seed = {"ATOM_OAUTH_ENCRYPTION_KEY": secrets.token_urlsafe(24)}  # of 32 characters, as it asks
    loaded = pp.Settings.load(environ=seed, home=own_settings.home)
    update = {"encryption_keys": loaded.encryption_keys}
    settings = own_settings.model_copy(update=update)
    plane = await plane_of(models=MODELS, flows=False, settings=settings)
    await write(plane, 1)
    assert await tokens(plane) == {"p0": "p0"}


async def test_destruction_waits_for_who_writes_and_outlives_a_restore(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    plane = await plane_of(models=MODELS, flows=False)
    [row] = await write(plane, 1)
    async with await connect(plane) as hand:
        cursor = await hand.execute("SELECT id, kek, wrapped FROM polyplane.data_keys")
        [(id_, kek, wrapped)] = await cursor.fetchall()
        async with plane.write(actor="test") as tx:
            found = await tx.get(Account, row.id)
            assert found is not None
            found.token = Secret("changed")
            await tx.flush()
            destroying = asyncio.create_task(plane.keys.destroy(person="p0"))
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()"
            )
            async with asyncio.timeout(10):
                while await (await hand.execute(waiting)).fetchone() != (1,):
                    await asyncio.sleep(0.01)
        assert (await destroying).keys == 1  # and what was acknowledged is gone, not half of it
        with pytest.raises(SecretDestroyed):
            await tokens(plane)
        await plane.close()
        await hand.execute(  # as an older copy of truth would
            "UPDATE polyplane.data_keys SET kek = %s, wrapped = %s, destroyed_at = NULL"
            " WHERE id = %s",
            (kek, wrapped, id_),
        )
    await plane.open()
    with pytest.raises(SecretDestroyed):
        await tokens(plane)
    assert (own_settings.home / "keys.destroyed").stat().st_mode & 0o777 == 0o600


async def test_wrapped_keys_are_bound_to_whose_they_are(plane_of: PlaneOf) -> None:
    plane = await plane_of(models=MODELS, flows=False)
    await write(plane, 2)
    await by_hand(
        plane,
        "UPDATE polyplane.data_keys d SET wrapped = o.wrapped FROM polyplane.data_keys o"
        " WHERE d.person = 'p0' AND o.person = 'p1'",
    )
    await plane.close()
    await plane.open()
    async with plane.read() as session:
        found = {row.owner_id: row for row in await session.scalars(sa.select(Account))}
    assert found["p1"].token.reveal() == "p1"
    with pytest.raises(SecretDamaged):
        found["p0"].token.reveal()
    with pytest.raises(psycopg.errors.CheckViolation):
        await by_hand(plane, "UPDATE polyplane.data_keys SET wrapped = NULL")


class Service:
    """A key service, as an application brings it; it can be made to fail."""

    def __init__(self) -> None:
        self.keys = KeySet({"service": secrets.token_bytes(32)}, "service")
        self.calls = 0
        self.is_down = False

    @property
    def primary(self) -> str:
        return self.keys.primary

    async def wrap(self, key: bytes, about: bytes) -> Wrapped:
        self.calls += 1
        if self.is_down:
            raise OSError("no route")
        return await self.keys.wrap(key, about)

    async def unwrap(self, wrapped: Wrapped, about: bytes) -> bytes:
        self.calls += 1
        if self.is_down:
            raise OSError("no route")
        return await self.keys.unwrap(wrapped, about)


async def test_an_application_may_bring_its_key_service(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    service = Service()
    application = pp.Application("vault", models=MODELS, keys=service)
    plane = await plane_of(applications=[application], flows=False)
    await write(plane, 2)
    for _ in range(5):
        assert len(await tokens(plane)) == 2
    assert service.calls <= 2 + 2 + 2 + 1  # each wrapped and unwrapped once; none for each read
    service.is_down = True
    await plane.close()
    plane = await plane_of(applications=[application], flows=False)
    with pytest.raises(Unavailable, match="does not answer"):
        await tokens(plane)
    service.is_down = False
    assert len(await tokens(plane)) == 2
    assert not (own_settings.home / "keys.json").exists()
    with pytest.raises(Misconfigured, match="both wrap"):
        pp.Plane(applications=[application, pp.Application("two", keys=service)])


async def test_a_key_file_is_shared_by_processes_that_know_an_older_one(tmp_path: Path) -> None:
    from polyplane.security.key_file import make

    path = tmp_path / "keys.json"
    await asyncio.gather(*[asyncio.to_thread(make, path) for _ in range(8)])
    one, two = KeyFile(path), KeyFile(path)
    assert one.primary == two.primary and len(json.loads(path.read_text())["keys"]) == 1
    await asyncio.gather(*[asyncio.to_thread(KeyFile(path).add) for _ in range(16)])
    assert len(json.loads(path.read_text())["keys"]) == 17  # none of them is lost
    added = one.add()
    wrapped = await one.wrap(b"k" * 32, b"about")
    assert wrapped.kek == added == two.primary
    assert await two.unwrap(wrapped, b"about") == b"k" * 32
    with pytest.raises(SecretDamaged):
        await two.unwrap(wrapped, b"another")
    assert [it.name for it in tmp_path.iterdir()] == ["keys.json"]
