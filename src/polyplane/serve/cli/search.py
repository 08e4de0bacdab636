"""`polyplane search`: what is known, by meaning; and by connection, or by words, too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from polyplane.errors import Refused
from polyplane.serve.cli.acting import as_operator
from polyplane.serve.cli.remote import Call
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

APPS: Final = ("agents", "assistant")
_SPACE: Final = re.compile(r"\s")


def search(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(help="In your own words.")],
    app: Annotated[
        str, typer.Option(help="In what: concepts (agents) or documents (assistant).")
    ] = "agents",
    hybrid: Annotated[
        bool,
        typer.Option(
            "--hybrid", help="Concepts: go on along the graph; documents: also by words. By both."
        ),
    ] = False,
    mode: Annotated[
        str | None, typer.Option(help="Documents: vector, text or hybrid (the default).")
    ] = None,
    hops: Annotated[int, typer.Option(min=1, max=3, help="How far it goes on.")] = 1,
    category: Annotated[str | None, typer.Option(help="Only concepts of this category.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 10,
    offset: Annotated[int, typer.Option(min=0, max=900, help="Documents: pass over these.")] = 0,
    tenant: Annotated[str, typer.Option(help="Whose: an organization's short name.")] = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Find concepts, or pieces of documents."""
    with Report("search", as_json) as report:
        if app not in APPS:
            raise Refused(f"There is no search in {app!r:.40}.", fix=f"One of: {', '.join(APPS)}.")
        asked: dict[str, Any] = {"question": question, "limit": limit}
        path = f"agents/concepts/{'hybrid' if hybrid else 'search'}"
        if app == "assistant":
            asked |= {"mode": mode or ("hybrid" if hybrid else None), "offset": offset}
            path = "assistant/search"
        else:
            asked |= {"category": category} | ({"hops": hops} if hybrid else {})

        async def work(call: Call) -> Any:
            return await call("POST", path, json=asked, headers={"X-Tenant": tenant})

        answer = as_operator(ctx, report, Settings.load(home=home), work)
        if app == "assistant":
            _show_documents(report, answer)
        else:
            _show_concepts(report, answer["hits"] if hybrid else answer, hybrid and answer)


def _show_concepts(report: Report, hits: Sequence[Any], answer: Any) -> None:
    report.data = {"hits": hits, "degraded": answer["degraded"] if answer else ""}
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


def _show_documents(report: Report, answer: Any) -> None:
    report.data = answer
    table = Table("score", "document", "where", "text", box=None)
    for it in answer["hits"]:
        where = it["heading"] or f"{it['start_at']:,} to {it['end_at']:,}"
        if it["page"] is not None:
            where = f"page {it['page']}, {where}"
        title = it["document"]["title"] or it["document"]["name"]
        table.add_row(f"{it['score']:.3f}", escape(title), escape(where), marked(it))
    report.show(table if answer["hits"] else "Nothing was found.")
    if answer["degraded"]:
        report.show(escape(answer["reason"]))
    report.next = "polyplane ingest PATH" if not answer["hits"] else "polyplane status"


def marked(hit: Any) -> Text:
    """The excerpt of a hit; what was asked for is bold."""
    start, end = hit["excerpt"]
    shown = Text(_SPACE.sub(" ", hit["text"][start:end]))
    for first, last in hit["highlights"]:
        if start <= first and last <= end:
            shown.stylize("bold", first - start, last - start)
    return shown
