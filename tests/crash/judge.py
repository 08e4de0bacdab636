"""After healing: is anything lost, invented, or out of order? By the writers' own journals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.crash.declared import AREA, COUNTERS, body_of
from tests.crash.journal import Expected, read
from tests.crash.load import BATCH_POINTS
from tests.crash.raw import Held

EXAMPLES_MAX = 10
EVENTS_FROM = 9 * AREA


@dataclass
class Verdict:
    """What was found; `wrong` names every breach, with examples."""

    acknowledged: int = 0
    unknown: int = 0
    rows: int = 0
    points: int = 0
    nodes: int = 0
    edges: int = 0
    lost: int = 0
    phantom: int = 0
    drift: int = 0
    inversions: int = 0
    sagas: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def breach(self, kind: str, what: str, keys: Any) -> None:
        """Count `keys` as `kind`: lost, phantom, drift or inversions."""
        found = list(keys)
        if found:
            setattr(self, kind, getattr(self, kind) + len(found))
            self.wrong.append(f"{kind}: {what}: {len(found)}, such as {found[:EXAMPLES_MAX]}")


async def truth(url: str) -> dict[int, tuple[int, str]]:
    """key -> (version, body)."""
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=10) as connection:
        cursor = await connection.execute("SELECT id, version, body FROM public.thing")
        return {key: (version, body) for key, version, body in await cursor.fetchall()}


def judge_rows(home: Path, rows: dict[int, tuple[int, str]], verdict: Verdict) -> Expected:
    """Truth against the journals."""
    expected = Expected()
    for path in sorted(home.glob("writer-*.jsonl")):
        expected.take(read(path))
    versions = {key: version for key, (version, _) in rows.items()}
    verdict.rows = len(rows)
    verdict.acknowledged, verdict.unknown = expected.acknowledged, expected.unknown
    verdict.breach("lost", "acknowledged and not in truth", expected.lost(versions))
    verdict.breach("phantom", "in truth and written by nobody", expected.phantoms(versions))
    torn = (k for k, (v, b) in rows.items() if k >= COUNTERS and b != body_of(k, v))
    verdict.breach("phantom", "half of one version and half of another", torn)
    return expected


def judge_audit(told: Mapping[str, Any], expected: Expected, verdict: Verdict) -> None:
    """Audit has each transaction that was acknowledged, once; and nobody was at it."""
    verdict.wrong += [f"audit: {it}" for it in told["wrong"]]
    written = told["transactions"]
    ours = {tx: sure for tx, sure in expected.transactions.items() if tx > EVENTS_FROM}
    sure = {tx for tx, is_sure in ours.items() if is_sure}
    verdict.breach("lost", "acknowledged and not in audit", sure - set(written))
    verdict.breach("phantom", "in audit and never begun", set(written) - ours.keys())
    if len(written) > len(set(written)):
        verdict.wrong.append("audit: a transaction is in it twice")


def judge_store(
    name: str,
    rows: Mapping[int, tuple[int, str]],
    held: Mapping[str, Held],
    verdict: Verdict,
    *,
    empty_too: bool,
    may_lack: bool,
) -> None:
    """A store, read past the product, against truth."""
    wanted = {str(key): row for key, row in rows.items() if row[1] or empty_too}
    have = {
        key: (item.version, item.body) for key, item in held.items() if item.version is not None
    }
    verdict.breach("phantom", f"in {name} and not derived", have.keys() - wanted.keys())
    if not may_lack:
        verdict.breach("drift", f"not in {name}", wanted.keys() - have.keys())
    stale = (key for key in have.keys() & wanted.keys() if have[key] != wanted[key])
    verdict.breach("drift", f"stale in {name}", stale)


async def effects(url: str) -> dict[int, tuple[str, str]]:
    """What sagas did: key -> (step, what)."""
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=10) as connection:
        cursor = await connection.execute("SELECT id, step, what FROM public.effect")
        return {key: (step, what) for key, step, what in await cursor.fetchall()}


def judge_graph(
    rows: Mapping[int, tuple[str, str]], told: Mapping[str, Any], verdict: Verdict
) -> None:
    """The graph as readers are given it, against truth: a node for each effect, and an edge to the
    one before where there is one.
    """
    before = ((key, key - 1) for key in rows if key - 1 in rows)
    wanted = {
        "nodes": {str(key): row for key, row in rows.items()},
        "edges": {str(key): (str(key), str(other)) for key, other in before},
    }
    verdict.nodes, verdict.edges = len(told["nodes"]), len(told["edges"])
    for what, expected in wanted.items():
        have = {key: (one, other) for key, one, other in told[what]}
        if len(have) < len(told[what]):
            verdict.wrong.append(f"{what} of the graph are there twice")
        verdict.breach("phantom", f"{what} of nothing", have.keys() - expected.keys())
        verdict.breach("drift", f"{what} that are not there", expected.keys() - have.keys())
        stale = (key for key in have.keys() & expected.keys() if have[key] != expected[key])
        verdict.breach("drift", f"stale {what}", stale)


def judge_points(home: Path, told: Mapping[str, Any], verdict: Verdict) -> None:
    """Each acknowledged point once; of the last batch perhaps all, unacknowledged."""
    sent = max([0, *(entry["points"] for entry in read(home / "points.jsonl"))])
    verdict.points = told["points"]
    if why := told.get("refused"):
        verdict.wrong.append(f"points were neither read nor proven: {why}")
        return
    if told["points"] < sent:
        verdict.breach("lost", f"points: {told['points']} of {sent}", range(sent - told["points"]))
    if told["points"] > sent + BATCH_POINTS or told["points"] != told["different"]:
        more = told["points"] - min(told["different"], sent + BATCH_POINTS)
        verdict.breach("phantom", f"points, of {sent}: {dict(told)}", range(more))


def judge_drift(told: Mapping[str, Any], verdict: Verdict) -> None:
    """What the plane's own proof says."""
    for name, parts in told["drift"].items():
        for what, keys in zip(("missing", "stale", "extra"), parts, strict=True):
            verdict.breach("drift", f"verify of {name}: {what}", keys)


def judge_readers(
    report: Mapping[str, Any], expected: Expected, since: int, verdict: Verdict
) -> list[int]:
    """What the observer saw go back or come twice; the events from `since` on it has not seen."""
    verdict.breach("inversions", f"{report['examples']}", range(report["inversions"]))
    verdict.breach("inversions", "events seen twice in an epoch", range(report["repeated"]))
    seen = set(report["transactions"])
    return [
        tx
        for tx, sure in expected.transactions.items()
        if sure and tx >= max(since, EVENTS_FROM) and tx not in seen
    ]
