"""`polyplane search`: what is known, by meaning; and by connection, too."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from polyplane.serve.cli.acting import as_operator
from polyplane.serve.cli.remote import Call
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings


def search(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(help="In your own words.")],
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Go on along the graph, and rank by both.")
    ] = False,
    hops: Annotated[int, typer.Option(min=1, max=3, help="How far it goes on.")] = 1,
    category: Annotated[str | None, typer.Option(help="Only concepts of this category.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 10,
    tenant: Annotated[str, typer.Option(help="Whose: an organization's short name.")] = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Find concepts by meaning; with --hybrid by meaning and connection."""
    with Report("search", as_json) as report:
        asked: dict[str, Any] = {"question": question, "category": category, "limit": limit}
        asked |= {"hops": hops} if hybrid else {}
        path = f"agents/concepts/{'hybrid' if hybrid else 'search'}"

        async def work(call: Call) -> Any:
            return await call("POST", path, json=asked, headers={"X-Tenant": tenant})

        answer = as_operator(ctx, report, Settings.load(home=home), work)
        hits = answer["hits"] if hybrid else answer
        report.data = {"hits": hits, "degraded": answer["degraded"] if hybrid else ""}
        table = Table("score", "concept", "category", "why", box=None)
        for it in hits:
            why = "; ".join(it.get("reasons", ()))
            table.add_row(f"{it['score']:.2f}", it["name"], it["category"], why)
        report.show(table if hits else "Nothing is known of it.")
        if report.data["degraded"]:
            report.show(report.data["degraded"])
        if hits:
            report.next = f"polyplane graph draw Concept {hits[0]['id']} --out concept.svg"
        else:
            report.next = "polyplane agents learn PATH"
