"""How far projections are behind what is committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polyplane.flow.projector import Projector, Target
from polyplane.model.key import BUCKETS
from polyplane.stores.catalog import engine_of
from polyplane.truth.journal import Journal


@dataclass(frozen=True, slots=True)
class ProjectionLag:
    """One projection: applied up to `order` of `published`; `filled` once it was backfilled.

    `running` says whether this process applies it, `error` what its projector met last. `parked`
    is the number of its dead letters.
    """

    projection: str
    collection: str
    engine: str
    table: str
    filled: bool
    order: int
    published: int
    buckets_behind: int
    parked: int
    running: bool
    applied_items: int
    error: str


async def lags(
    journal: Journal,
    epoch: int,
    targets: Mapping[str, Target],
    projectors: Mapping[str, Projector],
) -> list[ProjectionLag]:
    """One line per projection, from the journal and from this process's projectors."""
    positions = await journal.positions()
    tails = await journal.tails()
    collections = await journal.collections()
    parked = await journal.dead.counts()
    behind = await journal.behind(
        epoch,
        [(it.collection.target, it.source.captured.name) for it in targets.values()],
    )
    found = []
    for name, target in targets.items():
        table = target.source.captured.name
        at = target.collection.target
        own = [positions[at, b] for b in range(BUCKETS) if (at, b) in positions]
        row = collections.get(at)
        projector = projectors.get(name)
        found.append(
            ProjectionLag(
                projection=name,
                collection=at,
                engine=engine_of(target.store),
                table=table,
                filled=bool(row and row.filled_at),
                order=max((p.order for p in own if p.epoch == epoch), default=0),
                published=max((order for (t, _), order in tails.items() if t == table), default=0),
                buckets_behind=sum(it.collection == at for it in behind),
                parked=parked.get(at, 0),
                running=projector is not None,
                applied_items=projector.applied_items if projector else 0,
                error=projector.last_error if projector else "",
            )
        )
    return found
