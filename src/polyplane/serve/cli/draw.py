"""`polyplane graph draw`: a picture of what is around a node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from polyplane.errors import NotFound, Refused
from polyplane.serve.cli.acting import as_operator
from polyplane.serve.cli.remote import Call
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

NEAR_MAX: Final = 1_000
"""Nodes that are looked at, to draw the best of them."""


def draw(
    ctx: typer.Context,
    label: Annotated[str, typer.Argument(help="Of the node, as `graph schema` shows it.")],
    key: Annotated[str, typer.Argument(help="Of the node.")],
    out: Annotated[Path, typer.Option(help="The file: .svg or .html.")] = Path("graph.svg"),
    hops: Annotated[int, typer.Option(min=1, max=4, help="At most so many edges away.")] = 1,
    edge: Annotated[
        list[str] | None, typer.Option("--edge", help="Only edges of this type; may come again.")
    ] = None,
    weight: Annotated[
        str, typer.Option(help="The property of edges, from 0 to 1, that says how strong they are.")
    ] = "strength",
    limit: Annotated[int, typer.Option(min=2, max=200, help="At most so many nodes.")] = 30,
    tenant: Annotated[str, typer.Option(help="Whose: an organization's short name.")] = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Draw what is around a node, the nearest and strongest of it, as SVG or HTML."""
    with Report("graph draw", as_json) as report:
        if out.suffix not in (".svg", ".html"):
            raise Refused(f"{out} is neither .svg nor .html.", fix="Use: --out graph.svg")
        asked = {"keys": {label: [key]}, "edges": edge or [], "hops": hops, "limit": NEAR_MAX}

        async def work(call: Call) -> tuple[Any, Any]:
            headers = {"X-Tenant": tenant}
            schema = await call("GET", "graph", headers=headers)
            return schema, await call("POST", "graph/subgraph", json=asked, headers=headers)

        schema, answer = as_operator(ctx, report, Settings.load(home=home), work)
        if not any((it["label"], it["key"]) == (label, key) for it in answer["nodes"]):
            raise NotFound(f"There is no {label} {key}.", fix=f"See: polyplane graph find {label}")
        from polyplane.serve.picture.choice import drawing_of
        from polyplane.serve.picture.svg import page_of, svg_of  # loads what places nodes

        ends = {it["type"]: (it["source"], it["target"]) for it in schema["edges"]}
        drawing = drawing_of(answer, ends, (label, key), limit=limit, weight=weight)
        middle = drawing.dots[0].caption
        title = f"{middle}: {len(drawing.dots)} nodes, {len(drawing.lines)} ties"
        content = (svg_of if out.suffix == ".svg" else page_of)(drawing, title)
        try:
            out.write_text(content, encoding="utf-8")
        except OSError as error:
            raise Refused(f"{out} cannot be written: {error.strerror}.") from error
        report.data = {
            "file": str(out),
            "nodes": len(drawing.dots),
            "lines": len(drawing.lines),
            "left_out": drawing.left_out,
        }
        report.show(f"{out}: {title}.")
        report.next = f"polyplane graph within {label} {key}"
