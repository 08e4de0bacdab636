"""Adopting a database, from the survey to the proof, and taking it back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from time import monotonic, perf_counter
from types import ModuleType
from typing import Final

from polyplane.embedded import Engines
from polyplane.errors import Conflict, Misconfigured, PolyplaneError, Unavailable
from polyplane.feed.jetstream import connect
from polyplane.model.collection import Collection
from polyplane.ops import adopt as truth
from polyplane.ops.declaration import Taken, declare, slug
from polyplane.ops.scaffold import source
from polyplane.ops.survey import Survey, survey
from polyplane.plane import Plane
from polyplane.security.realm import Realm
from polyplane.settings import Settings
from polyplane.stores.catalog import open_store
from polyplane.truth.database import Database

POLL_S: Final = 0.2
STALL_S: Final = 300.0
"""A backfill that reads no row for so long is given up."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Adopted:
    """One table and its first projection, as `verify` found them."""

    table: str
    projection: str
    rows: int
    items: int
    drift: int


@dataclass(slots=True)
class AdoptReport:
    """What `adopt` did. `skipped` is table -> why."""

    database: str
    out: Path
    tables: list[Adopted] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    fill_s: float = 0.0
    verify_s: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether every projection equals what follows from its table."""
        return not any(adopted.drift for adopted in self.tables)


@dataclass(slots=True)
class RemoveReport:
    """What was taken back, from the database, the vector store and the feed."""

    tables: list[str] = field(default_factory=list)
    collections: list[str] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)


def settings_of(url: str, home: Path | None) -> Settings:
    """The settings of a plane on the database at `url`.

    Unless they are set, home and namespace follow from the database's name, so that two adopted
    databases do not meet.
    """
    loaded = Settings.load(home=home, database_url=url)
    name = slug(url.partition("?")[0].rpartition("/")[2]) or "database"
    name = (name if name[0].isalpha() else f"db_{name}")[:30]
    own = {"home": Path("var") / name, "namespace": name}
    return loaded.model_copy(
        update={key: value for key, value in own.items() if key not in loaded.model_fields_set}
    )


async def run_adopt(
    settings: Settings, tables: Sequence[str], *, out: Path | None, force: bool, tell: Tell
) -> AdoptReport:
    """Survey, write the module to `out`, install capture, fill the stores and verify.

    Raises Conflict when `out` holds something else, unless `force`; and what each step raises.
    """
    url = _url(settings)
    async with _database(settings) as database:
        found = await survey(database, tables)
        name = slug(found.rights.database) or "database"
        path = out or Path(f"{name}_plane.py")
        _write(path, _module_text(found, path, settings), force=force)
        tell(f"wrote {path}")
        await truth.add(database, url, [table.table for table in found.tables], tell)
    report = AdoptReport(found.rights.database, path, skipped=dict(found.skipped))
    module = _load(path)
    plane = Plane(models=module.MODELS, projections=module.PROJECTIONS, settings=settings)
    await plane.open(tell)
    try:
        await _fill_and_verify(plane, report, tell)
    finally:
        await plane.close()
    return report


async def _fill_and_verify(plane: Plane, report: AdoptReport, tell: Tell) -> None:
    started = perf_counter()
    await filled(plane, tell)
    report.fill_s = round(perf_counter() - started, 2)
    drift = await plane.verify()
    report.verify_s = round(sum(part.duration_s for part in drift.parts), 2)
    for part in drift.parts:
        table = plane.opened.targets[part.projection].source.captured.name
        wrong = len(part.missing) + len(part.stale) + len(part.extra)
        report.tables.append(Adopted(table, part.projection, part.rows, part.items, wrong))


async def filled(plane: Plane, tell: Tell) -> None:
    """Return when every collection of the plane has been filled.

    Raises PolyplaneError when a backfill fails, Unavailable when one makes no progress.
    """
    rows, last_progress = -1, monotonic()
    while True:
        faults = plane.opened.crew.faults
        if failed := [f"{name}: {why}" for name, why in faults.items() if "projector" in name]:
            raise PolyplaneError(f"The backfill failed. {failed[0]}")
        done = sum(projector.filled_rows for projector in plane.opened.projectors.values())
        if done != rows:
            rows, last_progress = done, monotonic()
            tell(f"filled: {rows:,} rows")
        waiting = [lag.projection for lag in await plane.lag() if not lag.filled]
        if not waiting:
            return
        if monotonic() - last_progress > STALL_S:
            raise Unavailable(f"{waiting[0]} has read no row for {STALL_S:g} s.")
        await asyncio.sleep(POLL_S)


async def run_remove(settings: Settings, tell: Tell) -> RemoveReport:
    """Take back what `run_adopt` added: collections, streams, triggers and schema, in this order.

    May be repeated. Raises Conflict while a plane runs on the database, or when something else
    stands on its schema; then nothing is removed.
    """
    url, report = _url(settings), RemoveReport()
    async with _database(settings) as database:
        if not await truth.is_there(url):
            tell("There is no plane in this database.")
            return report
        await truth.check_removable(url)
        report.collections = await truth.collections(database)
        await _forget(settings, report.collections)
        report.streams = await _delete_streams(settings, tell)
        report.tables = await truth.remove(database, url, tell)
    return report


async def _forget(settings: Settings, names: Sequence[str]) -> None:
    target = settings.url("vector_url") or f"lancedb://{settings.home.absolute() / 'lancedb'}"
    key = settings.url("vector_api_key")
    store = await open_store("vector", target, **({"api_key": key} if key else {}))
    try:
        for name in names:
            await store.forget(Collection(name, 1, "vector"))
    finally:
        await store.close()


async def _delete_streams(settings: Settings, tell: Tell) -> list[str]:
    """Delete the feed's streams: a later plane here must not go on from the tail of this one."""
    async with _nats_url(settings, tell) as url:
        if url is None:
            return []
        feed = await connect(url, settings.namespace)
        try:
            streams = [feed.subjects.changes, feed.subjects.events]
            for stream in streams:
                await feed.delete(stream)
        finally:
            await feed.close()
    return streams


@asynccontextmanager
async def _nats_url(settings: Settings, tell: Tell) -> AsyncIterator[str | None]:
    """The feed's URL: of the settings, or of the home's own NATS, started for this."""
    if url := settings.url("nats_url"):
        yield url
    elif not settings.home.is_dir():
        yield None
    else:
        engines = Engines(settings.home, wanted=("nats",), realm=Realm.of(settings))
        await engines.start(tell)
        try:
            yield engines.admins["nats"]  # the plane may not delete a stream
        finally:
            await engines.stop()


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    database = Database(
        _url(settings), max_connections=4, call_timeout_s=settings.db_call_timeout_s
    )
    try:
        yield database
    finally:
        await database.close()


def _url(settings: Settings) -> str:
    url = settings.url("database_url")
    if url is None:
        raise Misconfigured("No database is known.", fix="Name it: postgresql://user@host/name")
    return url


def _module_text(found: Survey, path: Path, settings: Settings) -> str:
    taken = Taken()
    return source(
        [declare(table.table, table.samples, taken) for table in found.tables],
        database=found.rights.database,
        file=path.name,
        home=str(settings.home),
        namespace=settings.namespace,
    )


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write `path`, unless it holds this already; never over something else without `force`."""
    try:
        if path.exists() and not force:
            if path.read_text(encoding="utf-8") == text:
                return
            raise Conflict(
                f"{path} exists and is yours.",
                fix="Give another file with --out, or write over it with --force.",
            )
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}.") from error


def module_name(path: Path) -> str:
    """The name in `sys.modules` of the module that was written to `path`."""
    return f"polyplane_adopted_{slug(path.stem)}"


def _load(path: Path) -> ModuleType:
    name = module_name(path)
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Misconfigured(f"{path} is not a Python file.", fix="Let its name end in .py.")
    module = module_from_spec(spec)
    sys.modules[name] = module  # where annotations are looked up
    spec.loader.exec_module(module)
    return module
