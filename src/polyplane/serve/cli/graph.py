"""`polyplane graph`: ask the graph of one tenant, or freely as the operator."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from polyplane.errors import Refused
from polyplane.serve.cli.acting import as_operator
from polyplane.serve.cli.draw import draw
from polyplane.serve.cli.remote import Call
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.settings import Settings

app = typer.Typer(
    help="Ask the graph: neighbours, ways, patterns.", no_args_is_help=True, add_completion=False
)
app.command()(draw)

SHOWN_CHARS_MAX: Final = 60

Tenant = Annotated[str, typer.Option(help="Whose: an organization's short name.")]
Label = Annotated[str, typer.Argument(help="Of the node, as `graph schema` shows it.")]
Key = Annotated[str, typer.Argument(help="Of the node.")]
Edges = Annotated[
    list[str] | None, typer.Option("--edge", help="Only edges of this type; may come again.")
]
Direction = Annotated[str, typer.Option(help="out, in or both.")]
Hops = Annotated[int, typer.Option(min=1, max=12, help="At most so many edges.")]
Limit = Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", help="property=value, or >=, <=, >, <; all must hold."),
]


@app.command()
def schema(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Show the labels of nodes and the types of edges, with their properties."""
    with Report("graph schema", as_json) as report:
        found = _asked(ctx, report, home, "default", "GET", "graph")
        report.data = found
        table = Table("nodes or edges", "between", "properties", "by", box=None)
        for it in found["nodes"]:
            table.add_row(it["label"], "", _types(it), it["projection"])
        for it in found["edges"]:
            between = f"{it['source']} -> {it['target']}"
            table.add_row(it["type"], between, _types(it), it["projection"])
        report.show(table)
        report.next = "polyplane graph find LABEL"


@app.command()
def find(
    ctx: typer.Context,
    label: Label,
    where: Where = None,
    limit: Limit = 20,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show nodes that satisfy all conditions, in the order of their keys."""
    with Report("graph find", as_json) as report:
        asked = {"label": label, "where": _where(where), "limit": limit}
        found = _asked(ctx, report, home, tenant, "POST", "graph/find", json=asked)
        report.data = {"nodes": found["items"]}
        report.show(_nodes(found["items"]) if found["items"] else "There are no such nodes.")
        report.next = f"polyplane graph within {label} KEY"


@app.command()
def node(
    ctx: typer.Context,
    label: Label,
    key: Key,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show one node with its properties."""
    with Report("graph node", as_json) as report:
        asked = {"label": label, "where": {"id": key}, "limit": 1}
        found = _asked(ctx, report, home, tenant, "POST", "graph/find", json=asked)["items"]
        if not found:
            raise Refused(f"There is no {label} {key}.", fix=f"See: polyplane graph find {label}")
        report.data = found[0]
        report.show(*(f"{name}: {it}" for name, it in found[0]["properties"].items()))
        report.next = f"polyplane graph within {label} {key}"


@app.command()
def neighbours(
    ctx: typer.Context,
    edge: Annotated[str, typer.Argument(help="The type of the edges.")],
    key: Key,
    direction: Direction = "out",
    where: Where = None,
    order_by: Annotated[str | None, typer.Option(help="A property of the edges.")] = None,
    descending: Annotated[bool, typer.Option("--descending", help="The highest first.")] = False,
    limit: Limit = 20,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show what is one edge away from a node; `--where` is asked of the edges."""
    with Report("graph neighbours", as_json) as report:
        asked = {
            "edge": edge,
            "key": key,
            "direction": direction,
            "where": _where(where),
            "order_by": order_by,
            "descending": descending,
            "limit": limit,
        }
        found = _asked(ctx, report, home, tenant, "POST", "graph/neighbours", json=asked)["items"]
        report.data = {"neighbours": found}
        table = Table("edge", "node", "", "properties", box=None)
        for it in found:
            beside = it["node"]
            table.add_row(_shown(it["edge"]), beside["label"], beside["key"], _shown(beside))
        report.show(table if found else "There is nothing beside it.")
        report.next = "polyplane graph within LABEL KEY"


@app.command()
def within(
    ctx: typer.Context,
    label: Label,
    key: Key,
    hops: Hops = 2,
    edge: Edges = None,
    direction: Direction = "both",
    limit: Limit = 50,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the nodes at most so many edges away, the nearest first."""
    with Report("graph within", as_json) as report:
        asked = {
            "label": label,
            "key": key,
            "edges": edge or [],
            "hops": hops,
            "direction": direction,
            "limit": limit,
        }
        found = _asked(ctx, report, home, tenant, "POST", "graph/within", json=asked)["items"]
        report.data = {"nodes": found}
        table = Table("hops", "node", "", "properties", box=None)
        for it in found:
            reached = it["node"]
            table.add_row(str(it["hops"]), reached["label"], reached["key"], _shown(reached))
        report.show(table if found else "There is nothing so near.")
        report.next = f"polyplane graph path {label} {key} LABEL KEY"


@app.command()
def path(
    ctx: typer.Context,
    label: Label,
    key: Key,
    to_label: Annotated[str, typer.Argument(help="Of the node at the end.")],
    to_key: Annotated[str, typer.Argument(help="Of the node at the end.")],
    edge: Edges = None,
    weight: Annotated[str | None, typer.Option(help="A property: its sum is to be small.")] = None,
    direction: Direction = "both",
    hops: Hops = 6,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the shortest way between two nodes, or the one of the smallest weight."""
    with Report("graph path", as_json) as report:
        asked = {
            "source": {"label": label, "key": key},
            "target": {"label": to_label, "key": to_key},
            "edges": edge or [],
            "weight": weight,
            "direction": direction,
            "hops": hops,
        }
        found = _asked(ctx, report, home, tenant, "POST", "graph/path", json=asked)
        report.data = found
        table = Table("by", "node", "", "properties", box=None)
        for it, by in zip(found["nodes"], [None, *found["edges"]], strict=False):
            told = f"{by['type']} {_shown(by)}" if by else ""
            table.add_row(told, it["label"], it["key"], _shown(it))
        report.show(table if found["nodes"] else f"There is no way of at most {hops} edges.")
        report.next = f"polyplane graph within {label} {key}"


@app.command()
def match(
    ctx: typer.Context,
    pattern: Annotated[
        str,
        typer.Argument(help="Labels with types between: 'Agent -CAN_USE-> Tool <-CAN_USE- Agent'."),
    ],
    limit: Limit = 20,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show what fits a chain of nodes and edges."""
    with Report("graph match", as_json) as report:
        steps = _steps(pattern)
        asked = {"steps": steps, "limit": limit}
        found = _asked(ctx, report, home, tenant, "POST", "graph/match", json=asked)["items"]
        report.data = {"matches": found}
        table = Table(*(it.get("label") or it["type"] for it in steps), box=None)
        for row in found:
            table.add_row(*(f"{it['key']} {_shown(it)}" for it in row))
        report.show(table if found else "Nothing fits.")
        report.next = "polyplane graph within LABEL KEY"


@app.command()
def cypher(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(help="A query that only reads.")],
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", help="name=value, as $name in it.")
    ] = None,
    timeout_s: Annotated[float, typer.Option(min=0.1, max=60, help="At most so long.")] = 10.0,
    limit: Limit = 100,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Run one read-only query in Cypher over all tenants; it is noted in the audit."""
    with Report("graph cypher", as_json) as report:
        given = dict(_split(it, ("=",))[::2] for it in parameter or ())
        parameters = {name: _value(it) for name, it in given.items()}
        asked = {"text": text, "parameters": parameters, "limit": limit, "timeout_s": timeout_s}
        found = _asked(ctx, report, home, "default", "POST", "graph/cypher", json=asked)
        report.data = found
        table = Table(*found["columns"], box=None)
        for row in found["rows"]:
            table.add_row(*(_cell(it) for it in row))
        report.show(table)
        if found["truncated"]:
            report.show(f"There are more than {limit:,}; see --limit.")
        report.next = "polyplane graph schema"


def _asked(
    ctx: typer.Context, report: Report, home: Any, tenant: str, method: str, path: str, **given: Any
) -> Any:
    async def work(call: Call) -> Any:
        return await call(method, path, headers={"X-Tenant": tenant}, **given)

    return as_operator(ctx, report, Settings.load(home=home), work)


def _where(given: list[str] | None) -> dict[str, Any]:
    """`strength>=0.5` and the like, as the API takes them."""
    bounds = {">=": "ge", "<=": "le", ">": "gt", "<": "lt"}
    found: dict[str, Any] = {}
    for text in given or ():
        name, sign, value = _split(text, (*bounds, "="))
        if sign == "=":
            found[name] = _value(value)
        else:
            known = found.setdefault(name, {})
            if not isinstance(known, dict):
                raise Refused(f"{text!r} says of {name} what another condition does.")
            known[bounds[sign]] = _value(value)
    return found


def _split(text: str, signs: tuple[str, ...]) -> tuple[str, str, str]:
    """(name, sign, value): by the first sign in it, the longer one of two."""
    places = [(text.find(sign), -len(sign), sign) for sign in signs if sign in text]
    if not places:
        raise Refused(f"{text!r} is not name{signs[-1]}value.")
    sign = min(places)[2]
    name, _, value = text.partition(sign)
    return name.strip(), sign, value


def _value(text: str) -> Any:
    """A number, true, false or null as such; anything else as a text."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(found, dict | list | str) else found


def _steps(pattern: str) -> list[dict[str, Any]]:
    """`A -X-> B <-Y- C` as the API takes it; `-X-` is gone either way."""
    words = pattern.split()
    steps: list[dict[str, Any]] = []
    for number, word in enumerate(words):
        if number % 2 == 0:
            steps.append({"label": word})
            continue
        name = word.removeprefix("<").removesuffix(">").strip("-")
        ways = {(True, False): "in", (False, True): "out", (False, False): "both"}
        way = ways.get((word.startswith("<"), word.endswith(">")))
        if way is None or not name or "-" not in word:
            raise Refused(f"{word!r} is no edge of a pattern.", fix="Write -TYPE-> or <-TYPE-.")
        steps.append({"type": name, "direction": way})
    return steps


def _types(it: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in it["properties"].items())


def _nodes(found: list[dict[str, Any]]) -> Table:
    table = Table("key", "properties", box=None)
    for it in found:
        table.add_row(it["key"], _shown(it))
    return table


def _shown(it: dict[str, Any]) -> str:
    """The properties of a node or an edge in one line."""
    told = (f"{name}={value}" for name, value in it["properties"].items() if value is not None)
    line = " ".join(told)
    return line if len(line) <= SHOWN_CHARS_MAX else f"{line[:SHOWN_CHARS_MAX]}..."


def _cell(value: Any) -> str:
    if isinstance(value, dict) and "properties" in value:
        return f"{value.get('label') or value.get('type')} {value['key']}"
    return "" if value is None else str(value)
