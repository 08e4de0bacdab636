"""Deeper than digests: is what a store holds really what its digest says?

Text, tags and vector (or the value, or properties and ends) that the store gives back are compared
with what is derived and embedded anew. Vectors are compared by direction, since some engines keep
only that.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol

import numpy as np

from polyplane.model.digest import canonical
from polyplane.model.drift import Part
from polyplane.model.graph import Edge, Node
from polyplane.model.items import Entry, Item, Stamp, Vector
from polyplane.reconcile.bookmark import Mark
from polyplane.reconcile.looking import ROUNDS_MAX
from polyplane.reconcile.verify import Progress, StoreSide, TruthSide

TOLERANCE: Final = 1e-4
"""How far a number of a unit vector may be off: an embedder need not repeat itself to the bit."""


class DeepTruth(TruthSide, Protocol):
    """Truth that also says what items should be."""

    def items(self, after: str | None = None) -> AsyncGenerator[list[Item], None]:
        """Every item as it should be, embedded anew, in key order, from one snapshot; or those
        behind a key.
        """
        ...

    async def items_of(self, keys: Sequence[str]) -> list[Item]:
        """The items under `keys` as they should be now."""
        ...


async def deepen(
    part: Part,
    truth: DeepTruth,
    store: StoreSide,
    *,
    keys: Sequence[str] | None = None,
    progress: Progress | None = None,
    mark: Mark | None = None,
) -> Part:
    """`part`, and also as stale what has the right digest and another content.

    Looks at all items, from where `mark` is, or at those under `keys`. As with digests, a
    difference counts when the stamp is the same after all that truth showed has been applied.
    """
    started = perf_counter()
    done = _Done(**(mark and mark.noted("deep")) or {})
    before_s = done.spent_s
    whole = truth.items(done.after) if keys is None else _once(await truth.items_of(keys))
    async for items in whole:
        for key, stamp in (await _unlike(items, store)).items():
            done.suspects[key] = list(stamp)
        done.compared += len(items)
        done.after = max((item.key for item in items), default=done.after)
        done.spent_s = before_s + perf_counter() - started
        if progress is not None:
            progress(done.compared)
        if mark is not None:
            mark.note("deep", partial(asdict, done))
    suspects = {key: Stamp(*stamp) for key, stamp in done.suspects.items()}
    stale = set(part.stale)
    for _ in range(ROUNDS_MAX):
        if not suspects:
            break
        items = await truth.items_of(list(suspects))
        await truth.caught_up()
        again = await _unlike(items, store)
        stale |= {key for key, stamp in again.items() if suspects[key] == stamp}
        suspects = {key: stamp for key, stamp in again.items() if key not in stale}
    return replace(
        part,
        stale=tuple(sorted(stale.difference(part.parked, part.missing, part.extra))),
        deep=done.compared,
        duration_s=part.duration_s + before_s + perf_counter() - started,
    )


@dataclass(slots=True)
class _Done:
    """How far it is, in plain values: what comes behind the key `after` is still to come."""

    after: str | None = None
    compared: int = 0
    suspects: dict[str, list[Any]] = field(default_factory=dict)
    spent_s: float = 0.0


async def _once(items: list[Item]) -> AsyncGenerator[list[Item], None]:
    yield items


async def _unlike(items: Sequence[Item], store: StoreSide) -> dict[str, Stamp]:
    """Which of `items` the store holds under the same digest with another content."""
    held = {found.stamp.key: found for found in await store.contents([it.key for it in items])}
    return {
        item.key: found.stamp
        for item in items
        if (found := held.get(item.key))
        and found.stamp.digest == item.digest
        and not is_like(item.content, found.content)
    }


def is_like(derived: Vector[Any] | Entry | Node[Any] | Edge[Any], held: Any) -> bool:
    """Whether a store that holds `held` holds what was derived, as far as it can."""
    if isinstance(derived, Node | Edge):
        return _is_like_in_graph(derived, held)
    if isinstance(derived, Entry):
        if not isinstance(held, Entry) or dict(derived.marks) != dict(held.marks):
            return False
        return canonical(derived.value) == canonical(held.value)
    if not isinstance(held, Vector) or held.text != derived.text:
        return False
    one, other = _direction(derived.embedding), _direction(held.embedding)
    return (
        _plain(derived.tags, held.tags) == _plain(held.tags, derived.tags)
        and one.shape == other.shape
        and bool(np.allclose(one, other, 0, TOLERANCE))
    )


def _is_like_in_graph(derived: Node[Any] | Edge[Any], held: Any) -> bool:
    """An edge is also what it is between."""
    if isinstance(derived, Edge):
        if not isinstance(held, Edge):
            return False
        if (held.source, held.target) != (derived.source, derived.target):
            return False
    elif not isinstance(held, Node):
        return False
    one, other = derived.properties, held.properties
    return _plain(one, other) == _plain(other, one)


def _plain(tags: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Tags that have a value; a moment as text where the other side has text."""
    return {
        name: value.astimezone(UTC).isoformat(timespec="microseconds")
        if isinstance(value, datetime) and isinstance(other.get(name), str)
        else value
        for name, value in tags.items()
        if value is not None
    }


def _direction(vector: Iterable[float] | None) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The vector at unit length; one of zeros as it is."""
    found = np.asarray([] if vector is None else vector, dtype=np.float64)
    length = float(np.linalg.norm(found))
    return found / length if length else found
