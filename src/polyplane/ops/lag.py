"""How far projections are behind what is committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polyplane.flow.projector import Projector, Target
from polyplane.flow.rebuild import Rebuild
from polyplane.model.key import BUCKETS
from polyplane.stores.catalog import engine_of
from polyplane.truth.journal import Journal


@dataclass(frozen=True, slots=True)
class ProjectionLag:
    """One projection, in the collection that is read: applied up to `order` of `published`.

    `filled` once it was backfilled. `running` says whether this process applies it, `error` what
    its projector met last, or why the last rebuild was given up. `version` is that of what readers
    read. `parked` is the number of dead letters. `building` names the collection that is being
    built beside it, if one is. `phase` says what this process does to bring that one up, or the
    one that is read (waiting, filling, proving, switching), and `building_rows` of
    `building_of_rows` how far it is in that; empty when it does neither.
    """

    projection: str
    collection: str
    version: int
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
    building: str = ""
    building_rows: int = 0
    phase: str = ""
    building_of_rows: int = 0


async def lags(
    journal: Journal,
    epoch: int,
    targets: Mapping[str, Target],
    projectors: Mapping[str, Projector],
    rebuilds: Mapping[str, Rebuild],
) -> list[ProjectionLag]:
    """One line per projection of `targets`, from the journal and from this process's work.

    `projectors` and `rebuilds` are by collection.
    """
    positions = await journal.positions()
    tails = await journal.tails()
    rows = await journal.collections.rows()
    read = {row.projection: row for row in rows if row.state == "active"}
    built = {row.projection: row for row in rows if row.state == "building"}
    last = {row.projection: row for row in rows}
    parked = await journal.dead.counts()
    behind = await journal.behind(
        epoch,
        [(row.name, targets[it].source.captured.name) for it, row in read.items() if it in targets],
    )
    found = []
    for name, target in targets.items():
        table, row = target.source.captured.name, read[name]
        own = [positions[row.name, b] for b in range(BUCKETS) if (row.name, b) in positions]
        projector = projectors.get(row.name)
        building = built[name].name if name in built else ""
        phase, done, of_rows = _work(projector, rebuilds.get(building))
        found.append(
            ProjectionLag(
                projection=name,
                collection=row.name,
                version=row.version,
                engine=engine_of(target.store),
                table=table,
                filled=row.filled,
                order=max((p.order for p in own if p.epoch == epoch), default=0),
                published=max((order for (t, _), order in tails.items() if t == table), default=0),
                buckets_behind=sum(it.collection == row.name for it in behind),
                parked=parked.get(row.name, 0),
                running=projector is not None,
                applied_items=projector.applied_items if projector else 0,
                error=(projector.last_error if projector else "") or last[name].error,
                building=building,
                building_rows=done,
                phase=phase,
                building_of_rows=of_rows,
            )
        )
    return found


def _work(projector: Projector | None, rebuild: Rebuild | None) -> tuple[str, int, int]:
    """(phase, rows, of so many) of what this process brings up."""
    if rebuild is not None:
        return rebuild.phase, rebuild.rows, rebuild.of_rows
    if projector is not None and not projector.is_running:
        return "filling", projector.filled_rows, projector.filled_of_rows
    return "", 0, 0
