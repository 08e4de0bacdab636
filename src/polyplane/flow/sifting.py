"""Bad rows: found one by one, so that they keep nothing but their own key back.

A fault of an engine is no row's fault. It is raised, waited out by whoever works, and parks no key.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from operator import attrgetter
from pathlib import Path
from traceback import walk_tb
from typing import Any, Final, TypeVar

from polyplane.errors import (
    DeriveFailed,
    EngineFailed,
    Fenced,
    NotFound,
    PolyplaneError,
    Refused,
    Unavailable,
)
from polyplane.flow.deriving import Derived, Deriver
from polyplane.model.collection import Collection
from polyplane.stores.protocol import ItemStore
from polyplane.truth.database import Database
from polyplane.truth.rows import Row
from polyplane.truth.scan import Source, rows_by_key

ENGINE_FAULTS: Final = (Unavailable, EngineFailed, Fenced, NotFound, TimeoutError, OSError)
"""What does not depend on the row. NotFound: the collection itself is gone."""
BLAMED_MAX: Final = 16
"""So many rows that errors name are left out one by one; more are found faster by halving."""
FAILURES_MAX: Final = 64
"""So many calls that fail, without one that works, are not due to single rows."""
ERROR_CHARS: Final = 300
TURN_ROWS: Final = 64
TURN_S: Final = 0.02
"""How long `derive` may keep the event loop, about: leases must be renewed meanwhile."""

T = TypeVar("T")
Failures = dict[str, Exception]
"""Key -> why nothing could be made of its row."""


async def sift(
    items: Sequence[T],
    act: Callable[[Sequence[T]], Awaitable[None]],
    key_of: Callable[[T], str] = str,
) -> list[tuple[T, Exception]]:
    """Do `act` to all of `items` but the bad ones, which are given back.

    One that an error names by its key is left out; what else fails is halved. Raises faults of
    engines, and PolyplaneError when it works for none of many.
    """
    bad: list[tuple[T, Exception]] = []
    untried, failures, works = deque([items] if items else []), 0, False
    while untried:
        some = untried.popleft()
        try:
            await act(some)
            works = True
        except ENGINE_FAULTS:
            raise
        except Exception as error:
            failures += 1
            if failures >= FAILURES_MAX and not works:
                raise PolyplaneError(
                    f"What was tried with {len(items)} rows works for none: {told(error)}."
                ) from error
            blames = isinstance(error, Refused) and error.key and len(bad) < BLAMED_MAX
            keys = [key_of(item) for item in some] if blames else []
            if len(some) == 1:
                bad.append((some[0], error))
            elif isinstance(error, Refused) and error.key in keys:
                at = keys.index(error.key)
                bad.append((some[at], error))
                untried.append([*some[:at], *some[at + 1 :]])
            else:
                half = len(some) // 2
                untried += (some[:half], some[half:])
    return bad


async def read(
    database: Database, source: Source, keys: Sequence[str], *, timeout_s: float
) -> tuple[dict[str, Any], Failures]:
    """The rows of `keys` that exist, and the keys whose row cannot be read."""
    rows: dict[str, Any] = {}

    async def some(keys: Sequence[str]) -> None:
        async with asyncio.timeout(timeout_s), database.connection() as connection:
            rows.update(await rows_by_key(connection, source, keys))

    return rows, dict(await sift(keys, some))


async def derive(deriver: Deriver, rows: Iterable[Row]) -> Derived:
    """Finished items of all rows but the bad ones; a slow `derive` lets others have their turn."""
    derived, loop = Derived(), asyncio.get_running_loop()
    rest, size, began = iter(rows), TURN_ROWS, loop.time()
    while piece := list(islice(rest, size)):
        started = loop.time()
        derived.extend(deriver.derived(piece))
        ended = loop.time()
        if ended - started > TURN_S:
            size = max(1, size // 2)
        if ended - began > TURN_S:
            await asyncio.sleep(0)
            began = loop.time()
    for item, error in await sift(derived.puts, deriver.finish, attrgetter("key")):
        derived.bad[item.key] = error
    if derived.bad:
        derived.puts = [item for item in derived.puts if item.key not in derived.bad]
    return derived


async def put(
    store: ItemStore, collection: Collection, derived: Derived, position: int, *, timeout_s: float
) -> None:
    """Apply what is derived, at `position`; what the store does not take is bad, too."""
    puts = {item.key: item for item in derived.puts}

    async def some(keys: Sequence[str]) -> None:
        items = [puts[key] for key in keys if key in puts]
        drops = [key for key in keys if key not in puts]
        async with asyncio.timeout(timeout_s):
            await store.apply(collection, items, drops, position)

    derived.bad |= dict(await sift([*puts, *derived.drops], some))


def told(error: Exception) -> str:
    """What went wrong and where; nothing of the row, which a message of another may repeat."""
    while isinstance(error, DeriveFailed) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    frames = list(walk_tb(error.__traceback__))
    at = ""
    if frames:
        frame, line = frames[-1]
        at = f" in {frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{line})"
    field = f", field {error.field}" if isinstance(error, Refused) and error.field else ""
    return f"{type(error).__name__}{at}{field}"[:ERROR_CHARS]
