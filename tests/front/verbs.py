"""Payloads through every verb of the plane that takes a text, past the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final

import polyplane as pp
from polyplane.graph import EdgeStep, NodeStep
from tests.attack.ground import Ground
from tests.flow.deeds import Deed, DeedCard, DeedNodes, DeedSearch, Leads, Meter
from tests.front.injecting import Injected
from tests.front.planted import DeedSaid

Verb = Callable[[Any, str, int], Awaitable[Any]]
"""What a caller holds, the payload and a number; what came back that should not have, if anything.
"""
EMBEDDING: Final = [1.0] * 4


async def _tag(acting: Any, text: str, number: int) -> Any:
    return await acting[DeedSaid].search(EMBEDDING, limit=1_000, tags={"said": text})


async def _tags(acting: Any, text: str, number: int) -> Any:
    return await acting[DeedSaid].search(EMBEDDING, limit=1_000, tags={"said": [text, text[:9]]})


async def _tag_name(acting: Any, text: str, number: int) -> Any:
    return await acting[DeedSaid].search(EMBEDDING, limit=1_000, tags={text: "x"})


async def _keys(acting: Any, text: str, number: int) -> Any:
    return await acting[DeedSearch].get([text, f"{text}1"])


async def _cached(acting: Any, text: str, number: int) -> Any:
    return await acting[DeedCard].get(text)


async def _window(acting: Any, text: str, number: int) -> Any:
    found = await acting[Meter].window(value="value", bucket_s=60, where={"place": text})
    return found.to_pylist()


async def _window_name(acting: Any, text: str, number: int) -> Any:
    found = await acting[Meter].window(value=text, bucket_s=60, where={text: "x"})
    return found.to_pylist()


async def _latest(acting: Any, text: str, number: int) -> Any:
    return (await acting[Meter].latest(by="place", where={"place": [text, "-"]})).to_pylist()


async def _latest_name(acting: Any, text: str, number: int) -> Any:
    return (await acting[Meter].latest(by=text, where={})).to_pylist()


async def _count(acting: Any, text: str, number: int) -> Any:
    return await acting[Meter].count({"place": text})


async def _file(acting: Any, text: str, number: int) -> Any:
    """A file called so, and found again by the key that is called so."""
    blob = await acting.blobs.put(b"hello", name=text, key=text)
    again = await acting.blobs.put(b"hello", name=text, key=text)
    known = await acting.blobs.head(blob.id)
    url = await acting.blobs.url(blob.id)
    await acting.blobs.delete(blob.id)
    wrong = again.id != blob.id or known.name != text or "\n" in url or "\r" in url
    return (blob, known, url) if wrong else None


async def _row(acting: Any, text: str, number: int) -> Any:
    """A row of that text."""
    async with acting.write() as tx:
        tx.add(Deed(id=number, whose=acting.caller.tenant, body=text))
    async with acting.read() as session:
        row = await session.get(Deed, number)
    return None if row is not None and row.body == text else row


async def _event(acting: Any, text: str, number: int) -> Any:
    """An event of that kind, and one about that thing."""
    async with acting.write() as tx:
        tx.emit("deeds.done", {"said": text}, subject=text)
    async with acting.write() as tx:
        tx.emit(text, {})


async def _inbound(acting: Any, text: str, number: int) -> Any:
    await acting.publish(f"laboratory.activity.{text}", b"{}", {"Nats-Msg-Id": text})


async def _points(acting: Any, text: str, number: int) -> Any:
    given = {"time": ["2026-01-01T00:00:00Z"], "place": [text], "value": [1.0]}
    await acting[Meter].publish(given, batch_id=text)


async def _nodes(acting: Any, text: str, number: int) -> Any:
    return await acting.graph.nodes(DeedNodes, [text, f"{text}1"])


async def _found(acting: Any, text: str, number: int) -> Any:
    return await acting.graph.find(DeedNodes, where={"body": [text, text[:9]]})


async def _found_name(acting: Any, text: str, number: int) -> Any:
    return await acting.graph.find(DeedNodes, where={text: "x"})


async def _label(acting: Any, text: str, number: int) -> Any:
    return await acting.graph.find(text, limit=10)


async def _beside(acting: Any, text: str, number: int) -> Any:
    said = {"body": text}
    return await acting.graph.neighbours(Leads, text, where=said, of=said, order_by="body")


async def _order(acting: Any, text: str, number: int) -> Any:
    return await acting.graph.neighbours(Leads, "1", order_by=text)


async def _pattern(acting: Any, text: str, number: int) -> Any:
    steps = NodeStep("Deed", {"body": text}), EdgeStep("LEADS", where={"body": text})
    return await acting.graph.match(*steps, NodeStep("Deed", {"id": text}))


async def _way(acting: Any, text: str, number: int) -> Any:
    return await acting.graph.path((DeedNodes, text), (DeedNodes, f"{text}1"))


async def _free(acting: Any, text: str, number: int) -> Any:
    """Not for whom some of it is hidden from."""
    return await acting.graph.cypher(text)


VERBS: Final[dict[str, Verb]] = {
    "vectors by a tag": _tag,
    "vectors by tags": _tags,
    "vectors by a tag's name": _tag_name,
    "vectors by key": _keys,
    "cache by key": _cached,
    "points by a column": _window,
    "points by a column's name": _window_name,
    "newest points": _latest,
    "newest points by a column": _latest_name,
    "how many points": _count,
    "files": _file,
    "rows": _row,
    "events": _event,
    "messages": _inbound,
    "points": _points,
    "nodes by key": _nodes,
    "nodes by a property": _found,
    "nodes by a property's name": _found_name,
    "nodes by a label": _label,
    "neighbours": _beside,
    "neighbours in an order": _order,
    "patterns": _pattern,
    "ways": _way,
    "free queries": _free,
}
"""What is asked for a text that nothing is called must not find anything."""


async def call(made: Ground, report: Injected, number: int, payload: tuple[str, str]) -> None:
    """One payload to one verb: all of them in turn."""
    language, text = payload
    name, verb = list(VERBS.items())[number % len(VERBS)]
    acting = made.plane.acting(made.mine.caller)
    began = monotonic()
    try:
        found = await verb(acting, text, 1_000_000 + number)
    except pp.PolyplaneError as error:
        found = None
        report.statuses[str(error.status)] += 1
        if error.status >= 500:
            report.effects.append(f"{name} {text!r}: {error!r:.300}")
    except Exception as error:
        found = None
        report.statuses["500"] += 1
        report.effects.append(f"{name} {text!r}: {error!r:.300}")
    else:
        report.statuses["done"] += 1
    report.took(language, name, monotonic() - began)
    if found:
        report.effects.append(f"{name} {text!r} gave {found!r:.300}")


async def limited(made: Ground, report: Injected, payload: tuple[str, str]) -> None:
    """A client called so is counted for itself, within the namespace."""
    language, text = payload
    began = monotonic()
    verdict = await made.plane.limits.check(text, limit=5)
    report.took(language, "limits", monotonic() - began)
    if not verdict.allowed:
        report.effects.append(f"limits {text!r} counted for somebody else")
