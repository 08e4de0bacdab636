"""`polyplane keys` on a home of its own, and through a running `up`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polyplane as pp
from polyplane.marks import Secret
from tests.flow.vault import Account
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
    plane = pp.Plane(applications=[application], home=home)
    async with plane, plane.write(actor="test") as tx:
        tx.add_all([Account(owner_id=it, token=Secret(f"{it}-1234")) for it in ("ada", "bob")])


def test_keys_are_listed_rotated_and_destroyed(place: Path) -> None:
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
