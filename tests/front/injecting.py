"""Payloads through every operation of the API, in every place that takes a text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from typing import Any, Final

from httpx import AsyncClient, InvalidURL

from tests.attack.ground import Ground
from tests.attack.routes import Attacker, Route, kind_of
from tests.front.payloads import SLEEP_S

SHOWN_MAX: Final = 30
SLOW_S: Final = SLEEP_S / 2
"""Longer, and a payload that sleeps was carried out."""
HEADERS: Final = ("X-Tenant", "Polyplane-Token", "Idempotency-Key", "If-Match", "X-Request-ID")
ECHOED: Final = ("name", "hypothesis", "insight", "role", "unit", "type")
"""Fields that come back as they were sent."""


@dataclass(slots=True)
class Injected:
    """Payloads by language and by where they went, and every effect in words."""

    payloads: Counter[str] = field(default_factory=Counter)
    targets: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    verbatim: int = 0
    """How often a text came back as it was sent."""
    slowest_s: float = 0.0
    effects: list[str] = field(default_factory=list)

    def took(self, language: str, target: str, duration_s: float) -> None:
        """Count one payload."""
        self.payloads[language] += 1
        self.targets[target] += 1
        self.slowest_s = max(self.slowest_s, duration_s)
        if duration_s > SLOW_S:
            self.effects.append(f"{target} slept for {duration_s:.1f} s")

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "payloads": sum(self.payloads.values()),
            "effects": len(self.effects),
            "server_errors": sum(n for it, n in self.statuses.items() if it.startswith("5")),
            "shown": self.effects[:SHOWN_MAX],
            "targets": len(self.targets),
            "verbatim": self.verbatim,
            "slowest_s": round(self.slowest_s, 2),
            "by_language": dict(sorted(self.payloads.items())),
            "by_status": dict(sorted(self.statuses.items())),
            "by_target": dict(sorted(self.targets.items())),
        }


class Injector:
    """Makes right requests, and puts a payload in one place of each."""

    def __init__(
        self, made: Ground, document: dict[str, Any], seed: int, credentials: dict[str, Any]
    ) -> None:
        """`credentials` are the headers for each kind of route; a tenant's own are known."""
        self._made = made
        self._attacker = Attacker(made, document, seed)
        self._dice = Random(seed)
        own = dict.fromkeys(("tenants", "graph"), made.mine.headers)
        self._credentials = {**credentials, **own, "open": {}}
        # A stream that is followed does not end; its texts: tests/attack/live.py.
        self.routes = [
            (route, kind)
            for route, kind in self._attacker.routes
            if kind != "live" and self._places(route)
        ]

    async def send(
        self, http: AsyncClient, report: Injected, number: int, payload: tuple[str, str]
    ) -> None:
        """One payload to one route: all of them in turn."""
        language, text = payload
        route, kind = self.routes[number % len(self.routes)]
        request = self._request(route, kind, text)
        began = monotonic()
        try:
            answer = await http.request(route.method, **request)
        except (InvalidURL, UnicodeEncodeError, ValueError):  # no client can send this
            return
        report.took(language, route.name, monotonic() - began)
        report.statuses[str(answer.status_code)] += 1
        said = answer.text + str(answer.headers)
        if answer.status_code >= 500:
            report.effects.append(f"{route.name} {text!r}: {answer.status_code} {said[:300]}")
        asked = str(request)
        for secret in self._made.theirs.secrets:
            if secret in said and secret not in asked:
                report.effects.append(f"{route.name} {text!r} told {secret}")
        if answer.is_success and answer.headers.get("content-type", "") == "application/json":
            self._compare(report, route, request.get("json"), answer.json(), text)

    def _compare(self, report: Injected, route: Route, sent: Any, got: Any, text: str) -> None:
        if not isinstance(sent, dict) or not isinstance(got, dict):
            return
        for name in ECHOED:
            if sent.get(name) == text and name in got:
                report.verbatim += 1
                if got[name] not in (text, text.strip()):
                    report.effects.append(f"{route.name} made {got[name]!r} of {text!r}")

    def _places(self, route: Route) -> list[tuple[str, str]]:
        """Where a text may stand: (path | query | body, name)."""
        found = [("path", it["name"]) for it in route.parameters("path")]
        found += [("query", it["name"]) for it in route.parameters("query")]
        if "application/json" in route.operation.get("requestBody", {}).get("content", {}):
            found.append(("body", ""))
        return found

    def _request(self, route: Route, kind: str, text: str) -> dict[str, Any]:
        mine = self._made.mine
        made = self._attacker._request(route, mine, 1.0, mine)
        where, name = self._dice.choice(self._places(route))
        if route.method == "delete" or (kind == "closed" and route.parameters("path")):
            where = "path"  # nothing of anybody's is to go
        path, query, body = made["path"], dict(made["query"]), made["body"]
        headers = {**self._credentials[kind]}
        if self._dice.random() < 0.1:
            headers[self._dice.choice(HEADERS)] = _sendable(text)
        match where:
            case "path":
                path = _replaced(route, text, self._dice)
            case "query":
                query[name] = text
            case "body":
                body = _planted(body, text, self._dice)
        request: dict[str, Any] = {"url": path, "params": query, "headers": headers}
        return request | ({"json": body} if body is not None else {})


def _sendable(text: str) -> bytes:
    """As the bytes of a header; a client would refuse what ends one."""
    return text.replace("\r", " ").replace("\n", " ").strip().encode()[:4_000]


def _replaced(route: Route, text: str, dice: Random) -> str:
    """The path with the payload for its parameters, as a client would write it, or nearly."""
    shown = "".join(
        it if it.isalnum() or (it in "'()*;:,.=|$" and dice.random() < 0.5) else _percent(it)
        for it in text
    )
    path = route.path
    for parameter in route.parameters("path"):
        path = path.replace(f"{{{parameter['name']}}}", shown)
    return path


def _percent(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "replace"))


def _planted(body: Any, text: str, dice: Random) -> Any:
    """`body` with one of its texts, or one of its names, replaced by the payload."""
    leaves = list(_leaves(body, ()))
    if not leaves or dice.random() < 0.05:
        return {**body, text: text} if isinstance(body, dict) else text
    path = dice.choice(leaves)
    return _put(body, path, text)


def _leaves(value: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for name, it in value.items() for leaf in _leaves(it, (*path, name))]
    if isinstance(value, list):
        return [leaf for index, it in enumerate(value) for leaf in _leaves(it, (*path, index))]
    return [path]


def _put(value: Any, path: tuple[Any, ...], text: str) -> Any:
    if not path:
        return text
    first, *rest = path
    if isinstance(value, dict):
        return {**value, first: _put(value[first], tuple(rest), text)}
    return [_put(it, tuple(rest), text) if n == first else it for n, it in enumerate(value)]


__all__ = ["Injected", "Injector", "kind_of"]
