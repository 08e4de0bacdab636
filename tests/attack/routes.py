"""Probes of the API, made from its OpenAPI document: a new route without a probe is an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final
from uuid import UUID

from tests.attack.assisted import ASSISTANT, KEYS
from tests.attack.crewed import AGENTS, FILE, WORDS
from tests.attack.documented import DOCUMENTS, NO_URL
from tests.attack.ground import LABORATORY, Ground, Side
from tests.attack.report import Report

CLOSED: Final = ("/api/v1/ops", "/api/v1/blobs", "/api/v1/graph/cypher")
"""For the operator alone: nobody else gets in, whatever they name."""
PEOPLE: Final = ("/api/v1/auth/", "/api/v1/auth/api-keys", "/api/v1/organizations")
"""For people, and those who may more: a program gets in nowhere, but to see who it is."""
ME: Final = "/api/v1/auth/me"
OPEN: Final = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/health/databases",
    "/health/metrics",
    "/api/v1/auth/oidc",
)
"""For everybody: nothing of any tenant is in it."""
GRAPH: Final = "/api/v1/graph"
"""For everybody: each sees what is theirs."""
LIVE: Final = "/api/v1/events"
"""Only what is declared can be followed, and no thing of a tenant is: see `probe_live`."""
PLAIN: Final[dict[str, Any]] = {
    "status": None,
    "state": None,
    "metric": "temperature",
    "file_stamp": "1-2",
}
"""Parameters that name nothing of anybody's, or are kept as who gave them; None: as the document
says.
"""
NOT_IN_METRICS: Final = ("activity_id", "controller_id")
CHOSEN_FREELY: Final = ("activity_id", "controller_id")
"""Names that every tenant may give: in a body they are nobody else's."""

METHODS: Final = ("get", "post", "put", "patch", "delete", "head")


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the document."""

    method: str
    path: str
    operation: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method.upper()} {self.path}"

    def parameters(self, where: str) -> list[dict[str, Any]]:
        """Its parameters in the path, or in the query."""
        return [it for it in self.operation.get("parameters", []) if it["in"] == where]


class Unprobed(AssertionError):
    """A route, a parameter or a verb that nobody has thought of a probe for."""


def routes_of(document: dict[str, Any]) -> Iterator[Route]:
    """Every operation."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method in METHODS:
                yield Route(method, path, operation)


def kind_of(route: Route) -> str:
    """`open`, `closed`, `people`, `outside`, `tenants` ...; Unprobed where nobody knows."""
    if route.path in OPEN:
        return "open"
    if route.path == LIVE:
        return "live"
    if route.path.startswith(CLOSED):
        return "closed"
    if route.path.startswith(PEOPLE):
        return "people"
    if route.path.startswith(GRAPH):
        return "graph"
    if route.path == f"{DOCUMENTS}/url":
        return "outside"
    if route.path.startswith((LABORATORY + "/", AGENTS + "/", ASSISTANT + "/")):
        return "tenants"
    raise Unprobed(f"{route.name}: say what kind of route it is, and probe it.")


class Attacker:
    """Asks for the other tenant's things in every place that a request has."""

    def __init__(self, ground: Ground, document: dict[str, Any], seed: int) -> None:
        self._ground = ground
        self._schemas = document["components"]["schemas"]
        self._dice = Random(seed)
        self.routes = [(route, kind_of(route)) for route in routes_of(document)]

    async def control(self, side: Side) -> list[str]:
        """The same requests by who may make them: those that are not answered prove nothing."""
        wrong = []
        for route, kind in sorted(self.routes, key=lambda it: _order(it[0])):
            if kind not in ("tenants", "graph"):
                continue
            answer = await self._send(route, side, self._request(route, side, 1.0, side))
            if not (answer.is_success or answer.status_code == 409):
                wrong.append(f"{route.name}: {answer.status_code} {answer.text[:300]}")
        return wrong

    async def probe(self, report: Report, probes: int) -> None:
        """So many requests of `mine` that name what is `theirs`, over all routes in turn."""
        mine, theirs = self._ground.mine, self._ground.theirs
        for number in range(probes):
            route, kind = self.routes[number % len(self.routes)]
            request = self._request(route, mine, 0.3, theirs)
            answer = await self._send(route, mine, request)
            report.probed(kind, _leak(route, kind, request, answer, theirs), answer.status_code)

    async def _send(self, route: Route, side: Side, request: dict[str, Any]) -> Any:
        headers = side.headers | request["headers"]
        return await self._ground.http.request(
            route.method,
            request["path"],
            params=request["query"],
            headers=headers,
            **({"json": request["body"]} if request["body"] is not None else {}),
        )

    # Making requests

    def _request(self, route: Route, mine: Side, own: float, other: Side) -> dict[str, Any]:
        """Each place holds something of mine with the probability `own`; one at least does not,
        unless all do.
        """
        path, named = route.path, route.parameters("path")
        sure = self._dice.randrange(len(named)) if named and own < 1 else -1
        for index, parameter in enumerate(named):
            side = other if index == sure or self._dice.random() > own else mine
            value = self._value(parameter["name"], parameter["schema"], side, route)
            path = path.replace(f"{{{parameter['name']}}}", str(value))
        query = {}
        for parameter in route.parameters("query"):
            side = mine if self._dice.random() < own else other
            if (own < 1 and self._dice.random() < 0.5) or parameter.get("required"):
                query[parameter["name"]] = self._asked(parameter, side)
        token = self._dice.choice(other.tokens or ["1.1"]) if own < 1 else ""
        headers = {"Polyplane-Token": token} if token and self._dice.random() < 0.1 else {}
        body = self._body(route, mine, own, other)
        if isinstance(body, dict) and "id" in body:  # one that is taken, in this very table
            of_kind = f"{route.path.rpartition('/')[2].removesuffix('s')}_id"
            body["id"] = other.ids.get(of_kind, other.tenant)
        return {"path": path, "query": query, "headers": headers, "body": body}

    def _asked(self, parameter: dict[str, Any], side: Side) -> Any:
        name, schema = parameter["name"], parameter["schema"]
        if name == "after":
            return self._dice.choice([*side.cursors, side.ids["experiment_id"]])
        if name == "settled":
            return self._dice.choice(side.tokens)
        if name in side.ids:
            return side.ids[name]
        return self._plain(schema, name, side)

    def _value(self, name: str, schema: dict[str, Any], side: Side, route: Route) -> str:
        if name in side.ids:
            return side.ids[name]
        if route.path.startswith(AGENTS) and name in WORDS:
            return WORDS[name]
        if route.path.startswith(ASSISTANT) and name in KEYS:
            return KEYS[name]
        if name == "acting_for":
            return side.tenant
        if name == "key_id":
            return side.key.split("_")[1]
        if kind_of(route) == "graph":
            return str(self._in_graph(name, side))
        if kind_of(route) in ("closed", "people", "live"):
            return side.ids["experiment_id"] if "format" in schema else "experiment_learnings"
        raise Unprobed(f"{route.name}: nobody knows what {name} is called in a tenant.")

    def _body(self, route: Route, mine: Side, own: float, other: Side) -> Any:
        content = route.operation.get("requestBody", {}).get("content", {})
        given = content.get("application/json")
        if given is None:
            return None

        def pick() -> Side:
            return mine if self._dice.random() < own else other

        if route.path == f"{DOCUMENTS}/url":
            return NO_URL
        if examples := given.get("examples"):
            chosen = self._dice.choice(list(examples.values()))["value"]
            dropped = NOT_IN_METRICS if route.path.endswith("/metrics") else ()
            return _renamed(chosen, pick(), mine, dropped)
        if route.path == f"{AGENTS}/learned":
            return {"files": [FILE]}
        of_graph = kind_of(route) == "graph"
        return self._made(given.get("schema", {}), "", pick, sparse=own == 1, of_graph=of_graph)

    def _in_graph(self, name: str, side: Side) -> Any:
        """What a node or an edge of `side` is named by; None for anything else."""
        key = str(self._dice.choice(side.deeds))
        named = {"label": "Deed", "key": key, "edge": "LEADS", "keys": {"Deed": [key]}}
        return named.get(name)

    def _made(
        self,
        schema: dict[str, Any],
        name: str,
        pick: Any,
        *,
        sparse: bool,
        of_graph: bool = False,
    ) -> Any:
        """Something of this schema, with names of some side in it wherever one fits."""
        schema, how = self._resolved(schema), {"sparse": sparse, "of_graph": of_graph}
        if of_graph and (found := self._in_graph(name, pick())) is not None:
            return found
        if name in CHOSEN_FREELY:
            return f"n{self._dice.randrange(1 << 60):x}"
        if name == "owner_id":  # in their own tenant a program writes for whom it likes
            return str(UUID(int=self._dice.getrandbits(128)))
        if name in (side := pick()).ids:
            return side.ids[name]
        if name == "email":
            return f"{self._dice.randrange(1 << 60):x}@example.org"
        if schema.get("type") == "object" or "properties" in schema:
            required = set(schema.get("required", ()))
            return {
                key: self._made(each, key, pick, **how)
                for key, each in schema.get("properties", {}).items()
                if key in required or (not sparse and self._dice.random() < 0.4)
            }
        if schema.get("type") == "array":
            return [self._made(schema["items"], "", pick, **how)]
        return self._plain(schema, name, pick(), "x")

    def _plain(self, schema: dict[str, Any], name: str, side: Side, text: str | None = None) -> Any:
        schema = self._resolved(schema)
        for fixed in (schema.get("examples"), schema.get("enum"), [schema.get("const")]):
            if fixed and fixed[0] is not None:
                return self._dice.choice(fixed)
        if schema.get("format") == "date-time":
            return "2026-01-01T12:00:00Z"
        if schema.get("format") == "uuid":
            return side.ids["experiment_id"]
        match schema.get("type"):
            case "integer":
                return max(1, int(schema.get("minimum", 1)))
            case "number":
                return 0.5
            case "boolean":
                return self._dice.random() < 0.5
            case "array":
                return [self._plain(schema["items"], name, side, text)]
        return PLAIN.get(name) or text or side.canary

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while True:
            if reference := schema.get("$ref"):
                schema = self._schemas[reference.rpartition("/")[2]]
            elif options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
                schema = next((it for it in options if it.get("type") != "null"), options[0])
            else:
                return schema


def _order(route: Route) -> tuple[bool, int]:
    """What deletes comes last, and what is tied before what it is tied to."""
    if route.path.endswith("/remove"):
        return True, 0
    is_last = route.method == "delete"
    return is_last, -route.path.count("/") if is_last else 0


def _renamed(example: Any, side: Side, mine: Side, dropped: tuple[str, ...]) -> Any:
    """An example of the document with the names of `side` in it."""
    if isinstance(example, list):
        return [_renamed(it, side, mine, dropped) for it in example]
    if not isinstance(example, dict):
        return example
    made = {}
    for key, value in example.items():
        if key in dropped:
            continue
        if key in side.ids:
            name = (mine if key in CHOSEN_FREELY else side).ids[key]
            made[key] = [name] * len(value) if isinstance(value, list) else name
        else:
            made[key] = _renamed(value, side, mine, dropped)
    return made


def _leak(route: Route, kind: str, request: dict[str, Any], answer: Any, theirs: Side) -> str:
    """What an answer should not have held, in words; empty when there is nothing."""
    said = answer.text + str(answer.headers)
    asked = f"{request['path']} {request['query']} {request['body']}"
    told = [it for it in theirs.secrets if it in said and it not in asked]
    if told:
        return f"{route.name} told {told[0]}: {said[:200]}"
    if kind == "closed" and answer.status_code not in (401, 403):
        return f"{route.name} let somebody in: {answer.status_code}"
    if kind == "live" and answer.status_code not in (403, 404, 422):
        return f"{route.name} let somebody follow {request['query']}: {answer.status_code}"
    if kind == "people" and answer.is_success and route.path != ME:
        return f"{route.name} let a program in: {answer.status_code}"
    if answer.status_code >= 500 and kind in ("tenants", "people", "graph"):
        return f"{route.name} failed: {answer.status_code} {said[:200]}"
    in_path = any(it in request["path"] for it in theirs.ids.values())
    if kind == "tenants" and in_path and answer.is_success:
        return f"{route.name} did it: {answer.status_code} {said[:200]}"
    return ""
