"""`polyplane keys` on a home of its own, and through a running `up`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.exceptions import Exit as ClickExit
from httpx import AsyncClient

import polyplane as pp
from polyplane.errors import Refused
from polyplane.marks import Secret
from polyplane.serve.cli.program import command_of
from polyplane.serve.cli.remote import error_of
from polyplane.serve.token import ops_token
from tests.conftest import PlaneOf
from tests.flow.vault import MODELS, Account
from tests.flow.vault_app import application

ROOT = Path(__file__).parents[2]
PROGRAM = [
    sys.executable,
    "-c",
    "from polyplane.serve.cli.program import Program, run;"
    "from polyplane.__main__ import PROGRAM as shipped;"
    "run(Program({'vault': 'tests.flow.vault_app'}, shipped.demo, shipped.controller))",
]
TIMEOUT_S = 60


def keys(home: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """What `polyplane keys ... --json` answers."""
    done = subprocess.run(
        [*PROGRAM, "keys", *words, "--json", "--home", str(home)],
        cwd=ROOT,
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["data"]
    return found


async def _fill(home: Path) -> None:
    async with pp.Plane(applications=[application], home=home) as plane:
        await _write(plane)


async def _write(plane: pp.Plane) -> None:
    async with plane.write(actor="test") as tx:
        tx.add_all([Account(owner_id=it, token=Secret(f"{it}-1234")) for it in ("ada", "bob")])


class Through:
    """The way to a plane of this process, as `Remote` is to an `up`."""

    def __init__(self, client: AsyncClient, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}
        self._loop = asyncio.get_running_loop()

    def get(self, path: str, **given: Any) -> Any:
        return self._call("GET", path, given)

    def post(self, path: str, **given: Any) -> Any:
        return self._call("POST", path, given)

    def _call(self, method: str, path: str, given: Any) -> Any:
        url = f"/api/v1/ops/{path}"
        asked = self._client.request(method, url, params=given, headers=self._headers)
        answer = asyncio.run_coroutine_threadsafe(asked, self._loop).result(TIMEOUT_S)
        if answer.is_error:
            raise error_of(answer)
        return answer.json()


async def test_commands_do_what_routes_do(
    plane_of: PlaneOf,
    client_of: Callable[[pp.Plane], AsyncClient],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plane = await plane_of(models=MODELS, flows=False)
    await _write(plane)
    capsys.readouterr()  # what was logged until here
    through = Through(client_of(plane), ops_token(plane.settings.home))
    monkeypatch.setattr("polyplane.serve.cli.keys.find_running", lambda _: through)

    async def keys(*words: str) -> str:
        program = command_of("keys")
        with suppress(SystemExit, ClickExit):
            await asyncio.to_thread(program.main, [*words], standalone_mode=False)
        shown = capsys.readouterr()
        return shown.out + shown.err

    listed = json.loads(await keys("list", "--json"))
    [first] = listed["data"]["keys"]
    assert (first["primary"], first["keys"], first["persons"]) == (True, 2, 2)
    assert "primary" in await keys("list")
    rotated = json.loads(await keys("rotate", "--json"))["data"]
    assert (rotated["made"], rotated["wrapped"]) == (True, 2)
    assert "0 data keys are wrapped" not in await keys("rotate")
    refused = json.loads(await keys("destroy", "--person", "ada", "--json"))
    assert refused["status"] == "error"
    assert "1 data keys (1 rows of public.account" in refused["data"]["message"]
    assert json.loads(await keys("destroy", "--json"))["data"]["error"] == "refused"
    done = json.loads(await keys("destroy", "--person", "ada", "--yes", "--json"))
    assert done["data"]["keys"] == 1
    assert "no data key" in await keys("destroy", "--person", "nobody", "--yes")
    bare = await plane_of(flows=False, settings=plane.settings)
    with pytest.raises(Refused, match="No model"):
        await bare.keys.list()


@pytest.mark.long
def test_keys_are_listed_rotated_and_destroyed_by_processes(place: Path) -> None:
    home = place / "home"
    asyncio.run(_fill(home))
    with subprocess.Popen(
        [*PROGRAM, "up", "--json", "--home", str(home), "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as up:
        try:
            assert up.stdout is not None and json.loads(up.stdout.readline())["status"] == "ok"
            [first] = keys(home, "list")["keys"]
            assert (first["primary"], first["keys"], first["persons"]) == (True, 3, 2)
            rotated = keys(home, "rotate")
            assert (rotated["made"], rotated["wrapped"]) == (True, 3)
            listed = {key["id"]: key["keys"] for key in keys(home, "list")["keys"]}
            assert listed == {rotated["primary"]: 3, first["id"]: 0}
            refused = keys(home, "destroy", "--person", "ada", code=3)
            assert "1 data keys (1 rows of public.account" in refused["message"]
            assert keys(home, "destroy", code=3)["fix"]
            destroyed = keys(home, "destroy", "--person", "ada", "--yes")
            assert destroyed["keys"] == 1 and destroyed["rows"]["public.account"] == 1
            assert keys(home, "destroy", "--person", "nobody", "--yes", code=3)
        finally:
            up.terminate()
            assert up.wait(30) == 0
    gone = keys(home, "destroy", "--tenant", "default", "--yes")
    assert gone["keys"] == 2
    secret_texts = json.loads((home / "keys.json").read_text())["keys"].values()
    assert not any(it in json.dumps(keys(home, "list")) for it in secret_texts)
