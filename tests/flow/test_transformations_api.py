"""Transformations over the operator's routes, and from the command line through them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from httpx import AsyncClient
from typer.testing import CliRunner

import polyplane as pp
from polyplane.serve.cli import acting, transform
from polyplane.serve.cli.remote import error_of
from polyplane.serve.token import ops_token
from tests.conftest import PlaneOf
from tests.flow.people import ToPerson, application
from tests.flow.things import by_hand

OPS = "/api/v1/ops/transformations"


class Through:
    """The way to a plane of this process, as `Remote` is to an `up`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()

    def call(self, method: str, path: str, parameters: Any = None, **given: Any) -> Any:
        """From another thread."""
        asked = self._client.request(method, f"/api/v1/{path}", params=parameters, **given)
        answer = asyncio.run_coroutine_threadsafe(asked, self._loop).result(60)
        if answer.is_error:
            raise error_of(answer)
        return answer.json()


async def test_an_operator_runs_looks_stops_and_mends(
    plane_of: PlaneOf,
    client_of: Callable[[pp.Plane], AsyncClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By routes, and by commands; each act is in audit."""
    plane = await plane_of(applications=[application(ToPerson)])
    await by_hand(
        plane,
        "INSERT INTO old_person (id, name) SELECT n, 'Ada ' || n FROM generate_series(1, 300) n",
    )
    await by_hand(plane, "UPDATE old_person SET name = 'Plato' WHERE id IN (7, 8)")
    client = client_of(plane)
    assert (await client.get(OPS)).status_code == 401
    client.headers["Authorization"] = f"Bearer {ops_token(plane.settings.home)}"
    assert (await client.get(f"{OPS}/nothing")).status_code == 404
    assert (await client.post(f"{OPS}/to_person/stop")).status_code == 409
    assert (await client.get(f"{OPS}/to_person/dead", params={"limit": 0})).status_code == 422
    through = Through(client)
    monkeypatch.setattr(acting, "find_running", lambda settings: through)
    runner, home = CliRunner(), str(plane.settings.home)

    async def command(*words: str, code: int = 0) -> Any:
        asked = [*words, "--json", "--home", home]
        done = await asyncio.to_thread(runner.invoke, transform.app, asked)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout.splitlines()[-1])["data"]  # logs come before it

    [known] = (await command("list"))["transformations"]
    assert (known["name"], known["state"], known["target"]) == ("to_person", "", "public.person")
    dry = await command("run", "to_person", "--dry-run", "--rows", "10")
    assert (dry["read"], dry["would_write"], dry["would_die"]) == (10, 8, 2)
    assert [key for key, _ in dry["errors"]] == ["7", "8"]
    done = await command("run", "to_person")
    assert (done["state"], done["written"], done["dead"]) == ("done", 298, 2)
    assert (await command("status", "to_person")) == done
    letters = (await command("dead", "list", "to_person", "--limit", "1"))["letters"]
    assert [it["key"] for it in letters] == ["7"]
    letters = (await command("dead", "list", "to_person", "--after", "7"))["letters"]
    assert [it["key"] for it in letters] == ["8"]
    assert (await command("dead", "show", "to_person", "8"))["attempts"] == 1
    await command("dead", "show", "to_person", "9", code=3)
    await by_hand(plane, "UPDATE old_person SET name = 'Plato II' WHERE id = 8")
    tried = await command("dead", "retry", "to_person")
    assert (tried["rows"], tried["dead"], tried["state"]) == (2, 1, "done")
    await command("dead", "drop", "to_person", code=3)
    assert (await command("dead", "drop", "to_person", "--yes"))["rows"] == 1
    await command("stop", "to_person", code=3)
    await command("run", "nothing", code=3)
    acts = await by_hand(
        plane,
        "SELECT DISTINCT action FROM polyplane.audit WHERE starts_with(action, 'transformation.')",
    )
    wanted = {"run", "stop", "retry", "drop"}
    assert {it for (it,) in acts} >= {f"transformation.{verb}" for verb in wanted}
    shown = await asyncio.to_thread(runner.invoke, transform.app, ["list", "--home", home])
    assert "public.old_person -> public.person" in shown.stdout and "Next: " in shown.stdout
