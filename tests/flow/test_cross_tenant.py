"""A sample of the attack of one tenant on another; all of it: python -m tests.crash.attack."""

from __future__ import annotations

from typing import Any

import pytest

import polyplane as pp
from polyplane.model.saga import local, pause
from polyplane.stores.protocol import VectorStore
from tests.attack import routes, verbs
from tests.attack.assisted import OAUTH
from tests.attack.attack import attack
from tests.attack.ground import DECLARED
from tests.attack.routes import Unprobed
from tests.conftest import PlaneOf
from tests.flow.deeds import caller

PROBES = 500


async def test_no_tenant_gets_hold_of_anothers_things(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    settings = own_settings.model_copy(update={"oauth": OAUTH})
    plane = await plane_of(settings=settings, **DECLARED)
    report = await attack(plane, PROBES, seed=20)
    assert report.leaks == []
    assert sum(report.probes.values()) >= PROBES
    assert set(report.probes) >= {
        "tenants",
        "closed",
        "open",
        "events",
        "live",
        "cache keys",
        "subjects",
    }


def test_what_nobody_has_a_probe_for_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    verbs.check_every_verb_has_a_probe()
    with monkeypatch.context() as patch:
        patch.setattr(VectorStore, "recommend", lambda self: None, raising=False)
        with pytest.raises(Unprobed):
            verbs.check_every_verb_has_a_probe()
    with monkeypatch.context() as patch:
        patch.setattr(VectorStore, "get", lambda self, collection, keys: None)
        with pytest.raises(Unprobed):
            verbs.check_every_verb_has_a_probe()
    with pytest.raises(Unprobed):
        routes.kind_of(routes.Route("get", "/api/v1/elsewhere", {}))


async def nothing(tx: pp.Write, context: Any) -> None:
    """A step."""


class Waits(pp.Saga[dict[str, Any]]):
    """One that stays for a while."""

    steps = (local(nothing), pause("wait", 600.0))


async def test_sagas_are_of_their_tenant(plane_of: PlaneOf) -> None:
    plane = await plane_of(sagas=[Waits])
    acme, other = plane.acting(caller("acme")), plane.acting(caller("other"))
    theirs = await other.sagas.start(Waits, {"n": 1}, key="k")
    mine = await acme.sagas.start(Waits, {"n": 2}, key="k")
    assert mine != theirs
    assert await acme.sagas.find(Waits, "k") == mine
    assert [it.id for it in await acme.sagas.list()] == [mine]
    for call in (
        acme.sagas.show(theirs),
        acme.sagas.finished(theirs),
        acme.sagas.signal(theirs, "wait"),
        acme.sagas.cancel(theirs),
        acme.sagas.retry(theirs),
        acme.sagas.list(after=theirs),
    ):
        with pytest.raises(pp.NotFound):
            await call
    async with other.write() as tx:
        with pytest.raises(pp.Refused):
            await acme.sagas.start(Waits, {"n": 3}, tx=tx)
    assert (await other.sagas.show(theirs)).state == "running"
    await acme.sagas.cancel(mine)
    await other.sagas.cancel(theirs)
