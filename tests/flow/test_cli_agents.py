"""What the agents know and do, from the command line: processes on one home, with one `up`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copy, rmtree
from tempfile import mkdtemp
from time import monotonic
from typing import Any, NamedTuple
from xml.etree import ElementTree

import httpx
import pytest

from polyplane.domains.agents.learning.reading import standard_library
from polyplane.serve.token import ops_token

COMMAND_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
WITHIN_S = 60.0
FILES = ("__init__", "futures", "locks", "mixins", "queues", "tasks")
QUESTION = "wait for several things at the same time"


class Up(NamedTuple):
    """A home with a running `up`, its API as the operator, and files that may be learned."""

    home: Path
    api: httpx.Client
    package: Path

    def run(self, *words: str, code: int = 0) -> Any:
        """What one command says as JSON, which must be all that it says."""
        done = _polyplane(*words, "--json", home=self.home)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)["data"]

    def ask(self, method: str, path: str | httpx.URL, **given: Any) -> Any:
        """What a route of the agents answers."""
        answer = self.api.request(method, path, **given)
        assert answer.is_success, answer.text
        return answer.json()


def _polyplane(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "polyplane", *words, "--home", str(home)],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """One for all tests; it must end with 0."""
    folder = Path(mkdtemp(prefix="polyplane-cli-agents-"))
    package = folder / "asyncio"
    package.mkdir()
    for name in FILES:
        copy(standard_library() / "asyncio" / f"{name}.py", package)
    home = folder / "home"
    command = [sys.executable, "-m", "polyplane", "up", "--json", "--with-stdin"]
    with subprocess.Popen(
        [*command, "--home", str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            assert ready["status"] == "ok", ready
            headers = {"Authorization": f"Bearer {ops_token(home)}"}
            base = f"{ready['data']['api_url']}/api/v1/agents/"
            with httpx.Client(base_url=base, headers=headers, timeout=60, trust_env=False) as api:
                yield Up(home, api, package)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(STOP_TIMEOUT_S) == 0
        finally:
            process.kill()
            rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def learned(up: Up) -> Any:
    """What `agents learn` says of a package, when all stores show it."""
    found = up.run("agents", "learn", str(up.package))
    asked = {"question": QUESTION, "limit": 1}
    up.ask("POST", "concepts/hybrid", params={"settled": found["token"]}, json=asked)
    return found


def test_learning_again_touches_what_has_changed(up: Up, learned: Any) -> None:
    assert (learned["files"], learned["changed"], learned["skipped"]) == (*[len(FILES)] * 2, 0)
    assert learned["concepts"] > 100 and learned["relations"] > learned["concepts"]
    assert learned["touched"]["relations_new"] == learned["relations"]
    queues = up.package / "queues.py"
    queues.write_text(queues.read_text() + "\n\ndef added_by_hand():\n    Queue()\n")
    one = up.run("agents", "learn", str(up.package))
    assert (one["changed"], one["touched"]["concepts_new"]) == (1, 1)
    assert sum(one["touched"].values()) < 20
    assert one["concepts"] == learned["concepts"] + 1


def test_what_is_known_is_found_and_drawn(up: Up, learned: Any, tmp_path: Path) -> None:
    hits = up.run("search", "--hybrid", QUESTION, "--limit", "5")["hits"]
    assert len(hits) == 5 and all(it["reasons"] for it in hits)
    assert [it["score"] for it in hits] == sorted((it["score"] for it in hits), reverse=True)
    assert any(it["by_graph"] > 0 for it in hits)
    [module] = up.ask("GET", "concepts", params={"name": "asyncio.queues"})["items"]
    out = tmp_path / "around.svg"
    told = _polyplane("graph", "draw", "Concept", module["id"], "--out", str(out), home=up.home)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == f"Next: polyplane graph within Concept {module['id']}"
    names = {it.text for it in ElementTree.parse(out).iter() if it.text}
    assert any("asyncio.queues" in it for it in names) and len(names) > 5


@pytest.mark.long
@pytest.mark.timeout(240)
def test_the_demo_works_and_what_it_leaves_is_looked_at(up: Up) -> None:
    """On the `up` that runs; then what its agents did, and what the request cache has."""
    done = up.run("demo", "agents", "--path", str(up.package))
    assert (done["missing"], done["stale"], done["extra"]) == (0, 0, 0)
    operated = done["operated"]
    assert (operated["statuses"], operated["wrong"]) == ({"completed": 16, "failed": 4}, [])
    assert operated["failures"] > 0 and operated["undone"] > 0 and operated["told"] > 0
    assert done["concept"].startswith("asyncio") and done["related"] and done["hits"]
    assert done["items"]["relates_to"] >= 200
    listed = up.run("agents", "operations", "--status", "failed")["operations"]
    assert len(listed) == 4 and all("refuses" in it["error"] for it in listed)

    [researcher] = {it["id"] for it in up.ask("GET", "agents")["items"] if it["name"][0] == "R"}
    until_s = monotonic() + WITHIN_S
    while not up.ask("GET", up.api.base_url.join("../ops/cache"))["entries"]:
        assert monotonic() < until_s  # until somebody vouches for what is kept
        assert up.ask("GET", f"agents/{researcher}/tools", params={"cached": True})
    counted = up.run("maintain", "cache")
    assert counted["held"]["entries"] >= 1 and counted["cleared"] == 0
    assert up.run("maintain", "cache", "--yes")["cleared"] >= 1
    assert up.run("maintain", "truth")["tables"] > 20
    assert up.run("maintain", "stores")["collections"]["graph"] >= 8
