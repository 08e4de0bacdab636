"""verify killed half way, and gone on with: by the command itself, and through a running `up`."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

import polyplane as pp
from polyplane import Settings
from polyplane.embedded import Engines
from polyplane.model.drift import Part
from polyplane.reconcile import bookmark
from polyplane.runtime import proof
from polyplane.runtime.keeping import sides
from polyplane.runtime.proving import BOOKMARK_NAME
from polyplane.serve.token import ops_token
from polyplane.truth.scan import all_rows
from tests.conftest import PlaneOf, settings_in
from tests.flow.notebook import Note, NoteSearch
from tests.flow.things import Thing, ThingSearch, by_hand

ROOT = Path(__file__).parents[2]
ROWS = 20_000
MARKS = 4
"""How often a killed verify writes its bookmark, in batches of 2,000 rows."""
FAR = re.compile(r"note_search: [\d,]+ of about 20,000 rows compared")
PROGRAM = (
    "from polyplane.serve.cli.program import Program, run;"
    "from polyplane.__main__ import PROGRAM as shipped;"
    "run(Program({'notebook': 'tests.flow.notebook'}, shipped.demo, shipped.controller))"
)
DYING = f"""
import os, signal
from polyplane.reconcile import bookmark
bookmark.EVERY_S, bookmark._SHARE, left, note = 0.0, 0, [{MARKS}], bookmark.Mark.note

def dying(self, *what):
    note(self, *what)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

bookmark.Mark.note = dying
"""
"""Before the program: it ends as by kill -9 in the middle of a verify."""
SLOW = """
import time
from polyplane.reconcile import bookmark
bookmark.EVERY_S, bookmark._SHARE, note = 0.0, 0, bookmark.Mark.note

def slowly(self, *what):
    note(self, *what)
    time.sleep(0.4)

bookmark.Mark.note = slowly
"""
"""Before the program: a verify takes some seconds."""


class Commands:
    """`polyplane` as processes, on a home whose engines are elsewhere."""

    def __init__(self, settings: Settings) -> None:
        self.home = settings.home
        names = [name for name in Settings.model_fields if name.endswith("_url")]
        urls = {f"POLYPLANE_{n.upper()}": url for n in names if (url := settings.url(n))}
        self.environ = {**os.environ, **urls, "POLYPLANE_NAMESPACE": settings.namespace}

    def words(self, *words: str, first: str = "") -> list[str]:
        """What to run; `first` is run before the program."""
        return [sys.executable, "-c", first + PROGRAM, *words, "--home", str(self.home)]

    def run(self, *words: str, code: int = 0, first: str = "") -> dict[str, Any]:
        """One command to its end; the envelope that it printed."""
        done = subprocess.run(
            self.words(*words, "--json", first=first),
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return found

    @contextmanager
    def up(self, *, first: str = "") -> Iterator[subprocess.Popen[str]]:
        """A running `up`, ready."""
        with subprocess.Popen(
            self.words("up", "--json", first=first),
            cwd=ROOT,
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                assert json.loads(process.stdout.readline())["status"] == "ok"
                yield process
            finally:
                if process.poll() is None:
                    process.terminate()

    def marked(self) -> dict[str, Any]:
        """What the bookmark says of the one projection."""
        kept = json.loads((self.home / BOOKMARK_NAME).read_text())
        found: dict[str, Any] = kept["marks"]["note_search"]["stages"]["compared"]
        return found


@pytest.fixture(scope="module")
async def commands(
    engines: Engines, tmp_path_factory: pytest.TempPathFactory, chdb_url: str
) -> Commands:
    """On a home with many notes, all of which are projected."""
    settings = await settings_in(tmp_path_factory.mktemp("home"), engines, chdb_url)
    async with pp.Plane(models=[Note], projections=[NoteSearch], settings=settings) as plane:
        await by_hand(
            plane,
            "INSERT INTO cli_note (owner, body) SELECT 'ada', 'note ' || n"
            f" FROM generate_series(1, {ROWS}) n",
        )
        await by_hand(plane, "ANALYZE cli_note")
        await plane.caught_up()
    return Commands(settings)


def compared(done: dict[str, Any]) -> dict[str, Any]:
    """What a verify came to, but for how long it took."""
    [part] = done["data"]["parts"]
    return {name: value for name, value in part.items() if name != "duration_s"}


@pytest.mark.long
def test_a_killed_verify_is_gone_on_with(commands: Commands) -> None:
    whole = compared(commands.run("verify"))
    assert whole["rows"] == whole["items"] == ROWS
    assert not (commands.home / BOOKMARK_NAME).exists()
    for kill in (1, 2):
        commands.run("verify", "--resume", code=-9, first=DYING)  # at first from the beginning
        assert commands.marked()["tally"]["rows"] == kill * MARKS * 2_000
    assert compared(commands.run("verify", "--resume")) == whole
    assert not (commands.home / BOOKMARK_NAME).exists()


@pytest.mark.long
def test_through_a_running_up_too(commands: Commands) -> None:
    with commands.up(first=DYING) as up:
        down = commands.run("verify", code=4)
        assert down["data"]["error"] == "unavailable"
        assert up.wait(20) == -9
    assert commands.marked()["after"] is not None
    with commands.up():
        resumed = compared(commands.run("verify", "--resume"))
        assert not (commands.home / BOOKMARK_NAME).exists()
        assert compared(commands.run("verify")) == resumed


@pytest.mark.long
def test_a_verify_ends_when_its_caller_goes_away(commands: Commands) -> None:
    """As by Ctrl-C; what was compared is kept, and whoever asks is told how far it is."""
    with commands.up(first=SLOW):
        api = str(commands.run("status")["data"]["api_url"])
        ours = {"Authorization": f"Bearer {ops_token(commands.home)}"}
        with httpx.Client(base_url=f"{api}/api/v1/ops/", headers=ours, timeout=10) as client:

            def told(when: Callable[[Any], bool]) -> Any:
                for _ in range(400):
                    if when(found := client.get("verify").json()):
                        return found
                    time.sleep(0.05)
                raise AssertionError(found)

            asking = HTTPConnection(client.base_url.host, client.base_url.port, timeout=10)
            asking.request("POST", "/api/v1/ops/verify", headers=ours)
            [far] = told(lambda found: found and found[0]["done"] > 0)
            assert (far["name"], far["about"], far["unit"]) == ("note_search", ROWS, "rows")
            asking.close()
            assert told(lambda found: not found) == []
        assert 0 < commands.marked()["tally"]["rows"] < ROWS
        assert FAR.search(shown_to_people(commands, "verify", "--resume"))
        assert not (commands.home / BOOKMARK_NAME).exists()


@pytest.mark.long
def test_people_see_how_far_it_is(commands: Commands) -> None:
    """On a terminal; nothing of it on a pipe or in JSON."""
    for command in ("verify", "repair"):
        assert FAR.search(shown_to_people(commands, command))
    piped = subprocess.run(
        commands.words("verify"), cwd=ROOT, env=commands.environ, capture_output=True, text=True
    )
    assert "0 drift" in piped.stdout and "compared" not in piped.stdout + piped.stderr


def shown_to_people(commands: Commands, *words: str) -> str:
    """All that a command shows on a terminal, until it ends well."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        commands.words(*words),
        cwd=ROOT,
        env=commands.environ | {"TERM": "xterm", "COLUMNS": "120"},
        stdout=theirs,
    )
    os.close(theirs)
    shown = ""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert process.wait(60) == 0, shown
    return shown


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 65_536).decode()
    except OSError:  # nobody writes to it any more
        return ""


async def test_a_verify_tells_how_far_it_is_and_ends_with_its_caller(
    plane_of: PlaneOf, client_of: Any
) -> None:
    """Whoever asks is told while it works; of two at once, one keeps the bookmark."""
    plane = await plane_of(models=[Thing], projections=[ThingSearch])
    await by_hand(plane, "INSERT INTO thing SELECT n, 'x' FROM generate_series(1, 5000) n")
    await by_hand(plane, "ANALYZE thing")
    await plane.caught_up()
    client = client_of(plane)
    client.headers["Authorization"] = f"Bearer {ops_token(plane.settings.home)}"
    url, kept = "/api/v1/ops/verify", plane.settings.home / BOOKMARK_NAME
    seen: list[Any] = []

    def look(far: Any) -> None:
        seen.append((far, list(plane.opened.proofs.values()), kept.exists()))

    drift = await plane.verify(bookmark=kept, progress=look)
    assert drift.clean and not kept.exists()
    assert [far.done for far, _, _ in seen] == [0, 2_000, 4_000, 5_000]
    assert all(far.about == 5_000 and told == [far] and has for far, told, has in seen)
    assert (await client.get(url)).json() == []
    plane.opened.bookmarks.add(kept)
    assert (await client.post(url)).status_code == 200
    busy = await client.post(url, params={"resume": True})
    assert (busy.status_code, busy.json()["detail"]) == (409, "A verify is at work already.")
    plane.opened.bookmarks.clear()
    assert (await client.post(url, params={"resume": True})).status_code == 200
    assert (await client.post(url, params={"projection": "nothing"})).status_code == 404
    kept.write_text("{")
    refused = await client.post(url, params={"resume": True})
    assert refused.status_code == 422 and "cannot be gone on with" in refused.json()["detail"]
    assert kept.read_text() == "{"


async def test_rows_behind_a_key_of_any_kind(plane_of: PlaneOf) -> None:
    """Numbers go by their texts; and a key of a store need not be one of the table."""
    plane = await plane_of(models=[Thing], projections=[ThingSearch])
    await by_hand(plane, "INSERT INTO thing SELECT n, 'x' FROM generate_series(1, 120) n")
    await plane.caught_up()
    truth, store = sides(plane.opened, plane.opened.targets["thing_search"], 10.0)
    keys = sorted(str(n) for n in range(1, 121))
    for after in ("", "1", "100", "11", "119x", "5\0", "no number", "\U0001f600", "~"):
        found = [key async for rows in truth.all(after) for key, _ in rows]
        assert found == [key for key in keys if key > after], after
        assert [s.key async for some in store.scan(after) for s in some] == found
        items = [it.key async for some in truth.items(after) for it in some]
        assert items == found


class Interrupted(Exception):
    """As by Ctrl-C."""


@pytest.fixture
async def things(plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch) -> pp.Plane:
    """Hundred things, compared ten at a time; each time it is written down how far that is."""
    monkeypatch.setattr(proof, "all_rows", partial(all_rows, batch_size=10))
    monkeypatch.setattr(bookmark, "EVERY_S", 0.0)
    monkeypatch.setattr(bookmark, "_SHARE", 0)
    plane = await plane_of(models=[Thing], projections=[ThingSearch])
    await by_hand(plane, "INSERT INTO thing SELECT n, 'thing ' || n FROM generate_series(1, 100) n")
    await plane.caught_up()
    return plane


async def proven(plane: pp.Plane, stop: int | None = None, **asked: Any) -> Part:
    """What a verify with a bookmark comes to; `stop`: it is interrupted after so many looks."""
    kept, left = plane.settings.home / BOOKMARK_NAME, [stop]

    def look(_: object) -> None:
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                raise Interrupted

    drift = await plane.verify(bookmark=kept, progress=look, **asked)
    assert not kept.exists()
    return replace(drift.parts[0], duration_s=0.0)


async def test_what_changes_between_is_seen_if_it_is_still_ahead(things: pp.Plane) -> None:
    whole = await proven(things)
    with pytest.raises(Interrupted):
        await proven(things, stop=5)
    marks = json.loads((things.settings.home / BOOKMARK_NAME).read_text())["marks"]
    stage = marks["thing_search"]["stages"]["compared"]
    after, rows = stage["after"], stage["tally"]["rows"]
    assert 10 <= rows < 100
    await by_hand(things, 'DELETE FROM thing WHERE id::text COLLATE "C" <= %s', after)
    await by_hand(things, "UPDATE thing SET body = 'other'")
    resumed = await proven(things, resume=True)
    assert resumed.drifting == [] and resumed.rows == 100
    assert resumed.truth_digest == resumed.store_digest != whole.truth_digest
    again = await proven(things)
    assert again.rows == 100 - rows and again.order > resumed.order == whole.order


async def test_drift_that_was_found_before_is_kept_unless_it_is_mended(things: pp.Plane) -> None:
    target = things.opened.targets["thing_search"]
    await target.store.bury(target.collection, ["1", "10", "100"], 1)
    with pytest.raises(Interrupted):
        await proven(things, stop=5)
    await by_hand(things, "UPDATE thing SET body = 'again' WHERE id = 10")
    assert (await proven(things, resume=True)).missing == ("1", "100")


async def test_a_deep_verify_is_gone_on_with(things: pp.Plane) -> None:
    whole = await proven(things, deep=True)
    with pytest.raises(Interrupted):
        await proven(things, stop=15, deep=True)
    marks = json.loads((things.settings.home / BOOKMARK_NAME).read_text())["marks"]
    assert marks["thing_search"]["stages"]["deep"]["compared"] > 0
    assert await proven(things, deep=True, resume=True) == whole


async def test_something_else_is_not_gone_on_with(things: pp.Plane) -> None:
    with pytest.raises(Interrupted):
        await proven(things, stop=5)
    with pytest.raises(pp.Conflict, match="was asked for thing_search"):
        await proven(things, deep=True, resume=True)
    kept = things.settings.home / BOOKMARK_NAME
    kept.write_text(kept.read_text().replace('"epoch": 1', '"epoch": 9'))
    with pytest.raises(pp.Conflict, match="with the epoch 9, and now has 1"):
        await proven(things, resume=True)
    assert kept.exists() and (await proven(things)).rows == 100
