"""The whole of it: plant, send, look whether anything is not what it was."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from httpx import ASGITransport, AsyncClient

import polyplane as pp
from polyplane.serve.api.app import create_app
from polyplane.serve.token import ops_token
from tests.attack.ground import ground
from tests.front.injecting import Injected, Injector
from tests.front.payloads import payloads
from tests.front.planted import plant, seen, settled, uproot
from tests.front.serving import PASSWORD
from tests.front.verbs import call, limited

OF_ROUTES: Final = 0.6
OF_LIMITS: Final = 0.05
EMAIL: Final = "ada@example.org"


async def inject(plane: pp.Plane, count: int, seed: int) -> Injected:
    """So many payloads, on routes and verbs in turn; AssertionError if nothing was planted."""
    app = create_app(plane, plane.declared.applications)
    report = Injected()
    transport = ASGITransport(app=app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as http:
        made = await ground(plane, http)
        await plant(made)
        await settled(made)
        credentials = {
            "closed": {"Authorization": f"Bearer {ops_token(plane.settings.home)}"},
            "people": await _person(plane, http),
        }
        injector = Injector(made, app.openapi(), seed, credentials)
        before = await seen(made)
        texts = payloads(seed)
        for number, payload in enumerate(islice(texts, int(count * OF_ROUTES))):
            await injector.send(http, report, number, payload)
        for payload in islice(texts, int(count * OF_LIMITS)):
            await limited(made, report, payload)
        left = max(0, count - sum(report.payloads.values()))
        for number, payload in enumerate(islice(texts, left)):
            await call(made, report, number, payload)
        after = await seen(made)
        await uproot(made)
    assert before["canary rows"], "there is something to change"
    report.effects += [
        f"{name}: {before[name]!r:.300} became {after[name]!r:.300}"
        for name in before
        if before[name] != after[name]
    ]
    violations = plane.opened.alarms.violations
    report.effects += [f"{place}: {times} alarms" for place, times in violations.items()]
    return report


async def _person(plane: pp.Plane, http: AsyncClient) -> dict[str, Any]:
    people = plane.identity.people
    await people.first_administrator(EMAIL, await people.hash_of(EMAIL, PASSWORD))
    given = {"email": EMAIL, "password": PASSWORD}
    answer = await http.post("/api/v1/auth/sign-in", json=given)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}
