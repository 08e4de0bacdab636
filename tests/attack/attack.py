"""The whole attack: routes, verbs, readers, and the ways that no answer goes."""

from __future__ import annotations

from typing import Any, Final

from httpx import ASGITransport, AsyncClient

import polyplane as pp
from polyplane.serve.api.app import create_app
from tests.attack.ground import Ground, Side, fill, ground
from tests.attack.paths import probe_paths
from tests.attack.report import Report
from tests.attack.routes import Attacker
from tests.attack.verbs import check_every_verb_has_a_probe, probe_verbs

OF_ROUTES: Final = 0.7
OF_VERBS: Final = 0.25


async def attack(plane: pp.Plane, probes: int, seed: int) -> Report:
    """About so many probes; AssertionError when they would prove nothing."""
    app = create_app(plane, plane.declared.applications)
    document: dict[str, Any] = app.openapi()
    report = Report()
    transport = ASGITransport(app=app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        made = await ground(plane, http)
        await _controlled(made, document, seed)
        before = await made.snapshot()
        check_every_verb_has_a_probe()
        await Attacker(made, document, seed).probe(report, int(probes * OF_ROUTES))
        await probe_verbs(made, report, int(probes * OF_VERBS), seed)
        await probe_paths(made, report, int(probes * (1 - OF_ROUTES - OF_VERBS) / 2), seed)
        after = await made.snapshot()
    changed = [name for name in before if before[name] != after[name]]
    report.leaks += [f"the other tenant's {name} is not what it was" for name in changed]
    violations = plane.opened.alarms.violations
    report.leaks += [f"{place}: {times} alarms" for place, times in violations.items()]
    return report


async def _controlled(made: Ground, document: dict[str, Any], seed: int) -> None:
    """Whoever owns the things may do it all: else a refusal of others says nothing."""
    spare = Side("spare")
    await fill(made.plane, made.http, spare, 9)
    await made.plane.caught_up()
    wrong = await Attacker(made, document, seed).control(spare)
    assert wrong == [], "\n".join(wrong)
