"""Which store owns what, and what only follows: read off the declarations. Pure.

A table is PostgreSQL's, a stream its series store's, a file the object store's: lost there, it is
lost. What a projection puts into a store follows from tables: it can be made again at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from polyplane.model.application import Application
from polyplane.model.projection import Projection
from polyplane.model.stream import Stream
from polyplane.model.table import Model, table_name, table_of
from polyplane.model.touches import touches_of

TRUTH: Final = "postgresql"
FEED: Final = "nats"


@dataclass(frozen=True, slots=True)
class Holding:
    """Something that a store holds. `follows_from` are tables; what owns its contents has none."""

    what: str
    kind: str
    store: str
    application: str = ""
    follows_from: tuple[str, ...] = ()
    declared_as: str = ""

    @property
    def is_owned(self) -> bool:
        """Whether the store is the only one that has it."""
        return not self.follows_from


def holdings(
    applications: Sequence[Application],
    models: Sequence[type[Model]],
    projections: Sequence[type[Projection[Any]]],
    streams: Sequence[type[Stream]],
    *,
    blobs: bool,
    engines: Mapping[str, str],
    tables: Mapping[str, str],
) -> list[Holding]:
    """All that there is. `engines` is the kind of a store -> what it is made by; `tables` what the
    vector store calls projections that it does not call by their names.
    """
    whose = _applications(applications)
    found = [
        Holding(
            table_name(table_of(it)), "table", TRUTH, whose.get(it, ""), declared_as=it.__name__
        )
        for it in dict.fromkeys(models)
    ]
    found.append(Holding("polyplane.*", "table", TRUTH))
    for it in projections:
        touched = [table_name(table_of(touch.model)) for touch in touches_of(it)]
        found.append(
            Holding(
                tables.get(it.name, it.name),
                _KINDS[it.kind],
                engines[it.kind],
                whose.get(it, ""),
                tuple(dict.fromkeys((table_name(table_of(it.model)), *touched))),
                it.__name__,
            )
        )
    found += [
        Holding(it.name, "series", engines["series"], whose.get(it, ""), declared_as=it.__name__)
        for it in streams
    ]
    if blobs:
        found.append(Holding("blobs", "files", engines["objects"]))
    # The feed carries changes and events on; what comes in it alone has until it is stored.
    found.append(Holding("changes, events", "feed", FEED, follows_from=("polyplane.outbox",)))
    found += [
        Holding(f"{it.name}.{inbound.name}", "inbound", FEED, it.name)
        for it in applications
        for inbound in it.inbound
    ]
    return found


_KINDS: Final = {"vector": "vectors", "graph": "graph", "cache": "cache"}


def _applications(applications: Sequence[Application]) -> dict[Any, str]:
    """Model, projection or stream -> the application that declares it."""
    return {
        declared: it.name
        for it in applications
        for declared in (*it.models, *it.projections, *it.streams)
    }
