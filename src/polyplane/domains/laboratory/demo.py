"""The demo: a real experiment, done by a user of the HTTP API and two controllers.

Nothing here reaches past the API and NATS: what it shows, any user could have got.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

import polyplane as pp
from polyplane.domains.laboratory.analysis import learning_id
from polyplane.domains.laboratory.demo_report import Answer, DemoReport, Holding, Lag, render
from polyplane.domains.laboratory.measurement import LEVELS, SAMPLE_BYTES

__all__ = ["DemoReport", "render", "run_demo"]

CONTROLLERS: Final = ("demo-1", "demo-2")
CALL_TIMEOUT_S: Final = 30.0
EXPERIMENT_TIMEOUT_S: Final = 180.0
LOOK_S: Final = 0.4
STOP_TIMEOUT_S: Final = 10.0
LAG_SAMPLES: Final = 50
CLIENT: Final = "demo"
KEY_S: Final = 3_600
IDLE_EXIT_S: Final = 60
"""When a controller ends whose demo was killed and cannot end it."""

QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "Is unpacking an archive quick?": ("fastest_back",),
    "What does it cost in RAM?": ("memory",),
    "Do diminishing returns set in?": ("knee:zlib", "knee:lzma"),
}
"""Question -> the rules whose learnings answer it, with no keyword in common."""


class _Api:
    """The plane's HTTP API as its clients see it; a problem document becomes an error of ours."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        also: Sequence[int] = (),
    ) -> httpx.Response:
        """One request below `/api/v1/`. Raises Refused, Unavailable unless it succeeds.

        A status listed in `also` is a success, too.
        """
        try:
            answer = await self._http.request(
                method, path, json=body, params=query, headers=headers
            )
        except httpx.HTTPError as error:
            raise pp.Unavailable(f"The API does not answer: {error!r}.") from error
        if answer.is_success or answer.status_code in also:
            return answer
        kind = pp.Refused if answer.status_code < 500 else pp.Unavailable
        raise kind(f"{method} {path}: {answer.status_code} {answer.text[:500]}")

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON that a GET in the laboratory answers."""
        return (await self.call("GET", f"laboratory/{path}", query=query)).json()


async def run_demo(
    api_url: str,
    nats_url_of: Callable[[str], str],
    *,
    ops_token: str,
    namespace: str = "pp",
    paths: Sequence[Path] = (),
    console: Console | None = None,
) -> DemoReport:
    """Run the experiment on a plane that is up; with `console`, show its progress there.

    `nats_url_of` says where a controller of that name finds NATS; it reads no other files than its
    own, so `paths` are Refused. However it ends, the controllers it started are gone. Raises
    PolyplaneError when the plane refuses or a deadline passes.
    """
    if paths:
        raise pp.Refused("The experiment reads no files of yours.", fix="Leave out --path.")
    started_s = time.monotonic()
    async with httpx.AsyncClient(
        base_url=f"{api_url}/api/v1/", timeout=CALL_TIMEOUT_S, trust_env=False
    ) as http:
        api = _Api(http)
        async with _key(api, ops_token) as http.headers["Authorization"]:
            async with AsyncExitStack() as stack:
                controllers = [
                    await stack.enter_async_context(_controller(nats_url_of(name), namespace, name))
                    for name in CONTROLLERS
                ]
                experiment = await _begin(api)
                await _follow(api, experiment, controllers, console)
            return await _look(api, experiment, ops_token, started_s)


@asynccontextmanager
async def _key(api: _Api, ops_token: str) -> AsyncIterator[str]:
    """An API key of the demo's own, as the operator gives it to any program; revoked at the end."""
    operator, path = {"Authorization": f"Bearer {ops_token}"}, "auth/api-keys"
    known = await api.call("GET", path, query={"every": True, "limit": 200}, headers=operator)
    for key in known.json()["items"]:
        if key["client"] == CLIENT:  # of a demo that was killed
            await api.call("DELETE", f"{path}/{key['id']}", headers=operator, also=(404,))
    given = {"client": CLIENT, "role": "service_writer", "expires_s": KEY_S}
    made = (await api.call("POST", path, given, headers=operator)).json()
    try:
        yield f"Bearer {made['key']}"
    finally:
        with suppress(pp.Unavailable):  # the plane was stopped; the key ends within the hour
            await api.call("DELETE", f"{path}/{made['id']}", headers=operator, also=(404,))


async def _begin(api: _Api) -> str:
    """Describe the experiment, as a person would, and start it; its id."""
    ada = {"id": _fixed("ada"), "name": "Ada", "email": "ada@laboratory.example"}
    await api.call("POST", "laboratory/users", ada, also=(409,))
    sample = {
        "id": _fixed("sample"),
        "name": "Source text of Python's standard library",
        "type": "text",
        "properties": {"bytes": SAMPLE_BYTES},
    }
    await api.call("POST", "laboratory/materials", sample, also=(409,))
    created = await api.call(
        "POST",
        "laboratory/experiments",
        {
            "name": "What does compression cost?",
            "hypothesis": "The highest levels of a codec cost more than they save.",
            "created_by": ada["id"],
        },
    )
    experiment = str(created.json()["id"])
    use = {"quantity": "1", "unit": "MiB", "role": "sample"}
    path = f"laboratory/experiments/{experiment}"
    await api.call("PUT", f"{path}/materials/{sample['id']}", use)
    # The two slow codecs go to different controllers.
    orders = [
        {
            "controller_id": CONTROLLERS[number % len(CONTROLLERS)],
            "activities": [
                {
                    "activity_id": _activity(experiment, codec, level),
                    "name": f"{codec} level {level}",
                    "parameters": {"codec": codec, "level": level},
                }
                for level in LEVELS[codec]
            ],
        }
        for number, codec in enumerate(("lzma", "bz2", "zlib"))
    ]
    await api.call("POST", f"{path}/start", {"work_orders": orders})
    return experiment


async def _follow(
    api: _Api,
    experiment: str,
    controllers: Sequence[asyncio.subprocess.Process],
    console: Console | None,
) -> None:
    """Return when the experiment is analysed; Unavailable when it is not in time."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
    with bar if console is not None else nullcontext():
        task = bar.add_task("25 activities on 2 controllers", total=1.0)
        deadline_s = time.monotonic() + EXPERIMENT_TIMEOUT_S
        while time.monotonic() < deadline_s:
            listed = await api.get(f"experiments/{experiment}/activities", limit=200)
            shares = [each["progress"] for each in listed["items"]]
            bar.update(task, completed=sum(shares) / len(shares))
            if all(each["status"] in ("completed", "failed") for each in listed["items"]):
                status = (await api.get(f"experiments/{experiment}"))["status"]
                if status in ("completed", "failed"):
                    return
            for controller in controllers:
                if controller.returncode is not None:
                    raise pp.Unavailable(f"A controller ended with {controller.returncode}.")
            await asyncio.sleep(LOOK_S)
    raise pp.Unavailable(f"The experiment was not over after {EXPERIMENT_TIMEOUT_S:g} s.")


async def _look(api: _Api, experiment: str, ops_token: str, started_s: float) -> DemoReport:
    """Everything there is to see of the finished experiment."""
    path = f"experiments/{experiment}"
    analysed = await api.call("POST", f"laboratory/{path}/analyse")
    settled = analysed.headers.get("Polyplane-Token")
    answers = [
        await _ask(api, experiment, question, rules, settled)
        for question, rules in QUESTIONS.items()
    ]
    slowest = _activity(experiment, "lzma", 6)
    profile = await api.get(f"activities/{slowest}/profile", metric="throughput_mb_s", bucket_s=1)
    latest = await api.get(f"{path}/telemetry/latest")
    lag = Lag.of([each async for each in _lags_ms(api, experiment)])
    await api.get(path, cached=True)
    operator = {"Authorization": f"Bearer {ops_token}"}
    drift = (await api.call("POST", "ops/verify", headers=operator)).json()
    summary = await api.get(f"{path}/summary")
    return DemoReport(
        experiment_id=experiment,
        status=summary["status"],
        activities=sum(summary["activities"].values()),
        telemetry_points=summary["telemetry_points"],
        learnings=summary["learnings"],
        holdings=_holdings(summary, drift),
        findings=analysed.json()["findings"],
        answers=answers,
        profile=profile["buckets"],
        latest=latest["metrics"],
        lag=lag,
        missing=drift["missing"],
        stale=drift["stale"],
        extra=drift["extra"],
        duration_s=round(time.monotonic() - started_s, 2),
    )


async def _ask(
    api: _Api, experiment: str, question: str, rules: Sequence[str], settled: str | None
) -> Answer:
    """The best hit among what the analysis has found."""
    asked = {"question": question, "experiment_id": experiment, "min_confidence": 0.7, "limit": 3}
    query = {"settled": settled} if settled else {}
    answer = await api.call("POST", "laboratory/learnings/search", asked, query=query)
    best = answer.json()["hits"][0]
    wanted = {str(learning_id(UUID(experiment), rule)) for rule in rules}
    return Answer(question, best["insight"], round(best["score"], 3), best["id"] in wanted)


async def _lags_ms(api: _Api, experiment: str) -> AsyncIterator[float]:
    """Write true learnings one by one; for each, how long until a search finds it."""
    metrics = ("ratio", "throughput_mb_s")
    activities = [(codec, level) for codec, levels in LEVELS.items() for level in levels]
    wanted = [(*activity, metric) for metric in metrics for activity in activities]
    for codec, level, metric in wanted[:LAG_SAMPLES]:
        activity = _activity(experiment, codec, level)
        (bucket, *_) = (
            await api.get(f"activities/{activity}/profile", metric=metric, bucket_s=86_400)
        )["buckets"]
        insight = (
            f"{codec} level {level}: mean {metric} {bucket['avg']:.3f}, from {bucket['min']:.3f}"
            f" to {bucket['max']:.3f} in {bucket['count']} readings."
        )
        learning = {
            "experiment_id": experiment,
            "type": "process",
            "insight": insight,
            "confidence": 1.0,
        }
        written = await api.call("POST", "laboratory/learnings", learning)
        committed_s = time.perf_counter()
        found = await api.call(
            "POST",
            "laboratory/learnings/search",
            {"question": insight, "experiment_id": experiment, "limit": 1},
            query={"settled": written.headers["Polyplane-Token"]},
        )
        lag_ms = (time.perf_counter() - committed_s) * 1e3
        if [hit["id"] for hit in found.json()["hits"]] != [written.json()["id"]]:
            raise pp.PolyplaneError(f"A settled learning was not found: {insight}")
        yield lag_ms


def _holdings(summary: dict[str, Any], drift: dict[str, Any]) -> list[Holding]:
    """What each engine holds, of this experiment or (derived stores) of all."""
    items = {part["projection"]: part["items"] for part in drift["parts"]}
    return [
        Holding("PostgreSQL", "activities", sum(summary["activities"].values())),
        Holding("PostgreSQL", "learnings", summary["learnings"]),
        Holding("ClickHouse", "telemetry points", summary["telemetry_points"]),
        Holding("ClickHouse", "metric points", summary["metric_points"]),
        Holding("ClickHouse", "events logged, as they came over NATS", summary["events_logged"]),
        Holding("LanceDB", "learnings by meaning", items["experiment_learnings"]),
        Holding("Valkey", "experiments cached", items["experiment_cache"]),
    ]


def _activity(experiment: str, codec: str, level: int) -> str:
    return f"{experiment}-{codec}-{level}"


def _fixed(name: str) -> str:
    """The same id at each run, so that the demo adds its people and materials once."""
    return str(uuid5(NAMESPACE_URL, f"polyplane:demo:{name}"))


@asynccontextmanager
async def _controller(
    nats_url: str, namespace: str, name: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A controller process, gone when the block ends."""
    environ = {
        **os.environ,
        "POLYPLANE_NATS_URL": nats_url,
        "POLYPLANE_NAMESPACE": namespace,
    }
    with TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "polyplane", "controller", "--id", name),
            *("--idle-exit-s", str(IDLE_EXIT_S)),
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    async with asyncio.timeout(STOP_TIMEOUT_S):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()
