"""`polyplane status`: what runs, and how far behind it is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rich.table import Table

from polyplane.serve.cli.projections import table_of
from polyplane.serve.cli.remote import find_running
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings


def status(home: Home = None, as_json: Json = False) -> None:
    """Show what runs, and how far behind it is."""
    with Report("status", as_json) as report:
        settings = Settings.load(home=home)
        remote = find_running(settings)
        if remote is None:
            report.data = {"running": False, "home": str(settings.home)}
            report.show(f"Nothing runs on {settings.home}.")
            report.next = "polyplane up"
            return
        found = remote.get("status")
        report.data = {"running": True, "api_url": remote.api_url, **found}
        report.show(f"{remote.api_url} is {found['status']}.", _engines(found))
        if found["work"]:
            report.show(_work(found))
        report.show(table_of(found["projections"]), _flows(found))
        if found["embedder"] and found["embedder"]["costs"]:
            report.show(embedder_table(found["embedder"]))
        report.next = "polyplane verify"


def _engines(found: dict[str, Any]) -> Table:
    table = Table("engine", "for", "state", "answers in", box=None)
    for engine in found["engines"]:
        state = engine["detail"] or engine["status"]
        table.add_row(engine["engine"], engine["role"], state, f"{engine['latency_ms']:.1f} ms")
    return table


def _work(found: dict[str, Any]) -> Table:
    table = Table("now", "is", "", box=None)
    for it in found["work"]:
        since = f"for {it['waits_s']:.0f} s: " if it["waits_s"] else ""
        table.add_row(it["what"], it["state"], since + it["detail"])
    return table


def _flows(found: dict[str, Any]) -> Table:
    table = Table("flow", "done", "state", box=None)
    relay = found["relay"]
    state = "leading" if relay["leading"] else "standing by"
    waiting = f", {relay['waiting_rows']:,} rows wait" if relay["waiting_rows"] else ""
    table.add_row("relay", f"{relay['published_keys']:,} changes", state + waiting)
    for kind, unit in (("streams", "points"), ("inbound", "messages")):
        for it in found[kind]:
            table.add_row(it["name"], f"{it['done']:,} {unit}", it["error"] or "up")
    return table


def embedder_table(found: dict[str, Any]) -> Table:
    """What an embedder that costs took, by day and model."""
    table = Table("embedder", "day", "tokens", "texts", "kept", "cost", box=None)
    for it in found["days"] or [{"model": found["model"], "day": "none"}]:
        numbers = (f"{it.get(name, 0):,}" for name in ("tokens", "texts", "kept"))
        table.add_row(it["model"], it["day"], *numbers, f"{Decimal(it.get('cost', 0)):,.2f}")
    return table
