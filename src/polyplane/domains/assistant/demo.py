"""The demo of the assistant: a real folder goes in, and questions find the right document.

Nothing here reaches past the API: what it shows, any user could have got.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import polyplane as pp
from polyplane.domains.assistant.course import IngestReport, Wanted
from polyplane.domains.assistant.demo_folder import fill
from polyplane.domains.assistant.demo_report import Asked, AssistantReport, Ingested, render
from polyplane.domains.assistant.over_routes import ingest_over

__all__ = ["AssistantReport", "render", "run_demo"]

CALL_TIMEOUT_S: Final = 120.0
CLIENT: Final = "demo-assistant"
KEY_S: Final = 3_600
TENANT: Final = "default"
CHANGED: Final = "python/textwrap/dedent.md"
REMOVED: Final = "python/difflib/get_close_matches.md"
NEWS: Final = (
    "\n\n## Kettles\n\nThe kettle of the fourth floor is descaled with vinegar on Mondays.\n"
)
QUESTIONS: Final = (
    ("remove common leading whitespace from every line of a text", CHANGED),
    ("find close matches of a misspelled word", REMOVED),
    (
        "cache the results of a function, least recently used go first",
        "python/functools/lru_cache.md",
    ),
    ("send an e-mail over SMTP", "python/smtplib/SMTP.md"),
    ("source code of an object as text", "python/inspect/getsource.md"),
)
NEWS_QUESTION: Final = "when is the kettle on the fourth floor descaled"


class Api:
    """The plane's HTTP API as its clients see it; a problem document becomes an error of ours."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def __call__(self, method: str, path: str, **given: Any) -> Any:
        """What a route below `/api/v1/` answers: its JSON, or None.

        Raises Refused, Unavailable unless it succeeds; `also` lists further statuses that do.
        """
        also, asked = given.pop("also", ()), given.pop("parameters", None)
        try:
            answer = await self.http.request(method, path, params=asked, **given)
        except httpx.HTTPError as error:
            raise pp.Unavailable(f"The API does not answer: {error!r}.") from error
        if not answer.is_success and answer.status_code not in also:
            kind = pp.Refused if answer.status_code < 500 else pp.Unavailable
            raise kind(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None


async def run_demo(
    api_url: str,
    nats_url_of: Callable[[str], str],
    *,
    ops_token: str,
    namespace: str = "pp",
    paths: Sequence[Path] = (),
    console: Console | None = None,
) -> AssistantReport:
    """Ingest, ask, change, remove and prove, on a plane that is up; with `console`, show progress.

    Given `paths`, these are ingested and nothing in them is changed. `nats_url_of` and `namespace`
    are for demos with programs outside; here are none. Raises PolyplaneError when the plane
    refuses or a deadline passes.
    """
    started_s = time.monotonic()
    async with httpx.AsyncClient(
        base_url=f"{api_url}/api/v1/", timeout=CALL_TIMEOUT_S, trust_env=False
    ) as http:
        api = Api(http)
        operator = {"Authorization": f"Bearer {ops_token}"}
        async with _key(api, operator) as http.headers["Authorization"]:
            if paths:
                return await _given(api, operator, paths, console, started_s)
            return await _own(api, operator, console, started_s)


@asynccontextmanager
async def _key(api: Api, operator: Mapping[str, str]) -> AsyncIterator[str]:
    """An API key of the demo's own, as the operator gives it to any program; revoked at the end."""
    path = "auth/api-keys"
    known = await api("GET", path, parameters={"every": True, "limit": 200}, headers=operator)
    for key in known["items"]:
        if key["client"] == CLIENT:  # of a demo that was killed
            await api("DELETE", f"{path}/{key['id']}", headers=operator, also=(404,))
    given = {"client": CLIENT, "role": "service_writer", "expires_s": KEY_S}
    made = await api("POST", path, json=given, headers=operator)
    try:
        yield f"Bearer {made['key']}"
    finally:
        with suppress(pp.Unavailable):  # the plane was stopped; the key ends within the hour
            await api("DELETE", f"{path}/{made['id']}", headers=operator, also=(404,))


async def _own(
    api: Api, operator: Mapping[str, str], console: Console | None, started_s: float
) -> AssistantReport:
    """With the folder of the demo, which is made as it was at the beginning of each run."""
    folder = _folder()
    if console is not None:
        console.print(f"Writing the demo's documents to {folder} ...", style="dim", markup=False)
    began_s = time.monotonic()
    await asyncio.to_thread(fill, folder)
    written_s = time.monotonic() - began_s
    ingested = await _twice(api, [folder], console)
    asked = [await _ask(api, question, folder / wanted) for question, wanted in QUESTIONS]
    with (folder / CHANGED).open("a", encoding="utf-8") as file:
        file.write(NEWS)
    changed = await _ingest(api, [folder], Wanted())
    news = await _ask(api, NEWS_QUESTION, folder / CHANGED)
    (folder / REMOVED).unlink()
    removed = await _ingest(api, [folder], Wanted(remove_gone=True))
    gone = await _ask(api, QUESTIONS[1][0], folder / REMOVED)
    drift = await api("POST", "ops/verify", headers=operator)
    return AssistantReport(
        folder=str(folder),
        written_s=round(written_s, 2),
        ingested=ingested,
        asked=[*asked, news],
        changed={name: getattr(changed, name) for name in _TOUCHED},
        removed=removed.removed,
        gone_is_found=gone.is_right,
        has_own_folder=True,
        **_proof(drift),
        duration_s=round(time.monotonic() - started_s, 2),
    )


_TOUCHED: Final = ("changed", "chunks_new", "chunks_moved", "chunks_same", "chunks_gone")


async def _given(
    api: Api,
    operator: Mapping[str, str],
    paths: Sequence[Path],
    console: Console | None,
    started_s: float,
) -> AssistantReport:
    ingested = await _twice(api, paths, console)
    drift = await api("POST", "ops/verify", headers=operator)
    return AssistantReport(
        folder=", ".join(map(str, paths)),
        written_s=0.0,
        ingested=ingested,
        asked=[],
        changed={},
        removed=0,
        gone_is_found=False,
        has_own_folder=False,
        **_proof(drift),
        duration_s=round(time.monotonic() - started_s, 2),
    )


def _folder() -> Path:
    """The same at each run: what has not changed is not read again."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    folder = base / "polyplane" / "demo-assistant"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


async def _twice(api: Api, paths: Sequence[Path], console: Console | None) -> Ingested:
    """Take in all of it, and look at it once more."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console, transient=True, disable=console is None)
    with bar:
        task = bar.add_task("documents", total=None)

        def tell(far: IngestReport) -> None:
            done = far.ready + far.failed + far.unchanged
            line = f"{done:,} of {far.files:,} documents"
            bar.update(task, description=line, completed=done, total=max(1, far.files))

        first = await ingest_over(api, TENANT, paths, Wanted(remove_gone=True), tell=tell)
    again = await _ingest(api, paths, Wanted(settle=False))
    return Ingested(
        documents=first.files,
        bytes=first.bytes,
        taken=first.taken,
        unchanged=first.unchanged,
        failed=[(it.name, it.code, it.reason) for it in first.failures],
        chunks=first.chunks_new,
        duration_s=first.duration_s,
        again_taken=again.taken,
        again_s=again.duration_s,
    )


async def _ingest(api: Api, paths: Sequence[Path], wanted: Wanted) -> IngestReport:
    return await ingest_over(api, TENANT, paths, wanted)


async def _ask(api: Api, question: str, wanted: Path) -> Asked:
    """A question, the document found first, and whether that is the right one."""
    began_s = time.monotonic()
    answer = await api("POST", "assistant/search", json={"question": question, "limit": 3})
    took_ms = (time.monotonic() - began_s) * 1e3
    hits = answer["hits"]
    first = hits[0]["document"] if hits else {"name": "", "title": ""}
    right = first["name"] == str(wanted)
    return Asked(question, first["title"], first["name"], right, str(wanted), round(took_ms, 1))


def _proof(drift: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "items": {part["projection"]: part["items"] for part in drift["parts"]},
        "missing": drift["missing"],
        "stale": drift["stale"],
        "extra": drift["extra"],
    }
