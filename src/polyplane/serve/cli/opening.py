"""A command's work on a plane opened for it, when no `up` runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, astuple
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx
import uvloop
from rich.text import Text

from polyplane.model.caller import Caller
from polyplane.model.drift import Far
from polyplane.plane import Plane
from polyplane.runtime.proving import BOOKMARK_NAME
from polyplane.serve.api import cache
from polyplane.serve.api.app import create_app
from polyplane.serve.api.operator import (
    collection_of,
    keys_told,
    mendable,
    named,
    provable,
    refill,
)
from polyplane.serve.cli import logs
from polyplane.serve.cli.program import Program
from polyplane.serve.cli.remote import Call, error_of
from polyplane.serve.cli.report import Report
from polyplane.serve.token import OPERATOR_HERE, ops_token
from polyplane.settings import Settings
from polyplane.truth.audit import EVERYTHING, Filter

T = TypeVar("T")

Tell = Callable[[str, int, int | None, str], None]
"""Hears how far a verify is: what a `Far` is made of."""


class OwnPlane:
    """The plane of `settings` with every application; each call opens it, works, closes it.

    Every call raises HomeBusy when another process runs the home.
    """

    def __init__(self, report: Report, program: Program, settings: Settings) -> None:
        self._report = report
        self._program = program
        self._settings = settings

    def verify(self, names: Sequence[str], tell: Tell, **asked: Any) -> dict[str, Any]:
        """The drift of what is named, or of all; `asked` as `Plane.verify` takes it."""

        async def work(plane: Plane) -> dict[str, Any]:
            things = [it for name in names for it in provable(plane, name)]
            kept = plane.settings.home / BOOKMARK_NAME
            drift = await plane.verify(*things, progress=_heard(tell), bookmark=kept, **asked)
            return asdict(drift)

        return self._on(work)

    def repair(self, names: Sequence[str], tell: Tell, **asked: Any) -> dict[str, Any]:
        """What drifted in the named projections, or in all, and what is left of it."""

        async def work(plane: Plane) -> dict[str, Any]:
            things, told = mendable(plane, names), _heard(tell)
            if asked.get("dry"):
                return asdict(await plane.repair(*things, progress=told, **asked))
            detail = {"projections": list(names), "deep": bool(asked.get("deep"))}
            async with plane.audit.act(OPERATOR_HERE, "plane.repair", "plane", detail=detail):
                return asdict(await plane.repair(*things, progress=told, **asked))

        return self._on(work)

    def lag(self) -> list[dict[str, Any]]:
        """How far every projection is."""

        async def work(plane: Plane) -> list[dict[str, Any]]:
            return [asdict(lag) for lag in await plane.lag()]

        return self._on(work)

    def backfill(self, name: str) -> dict[str, Any]:
        """Derive all of one projection anew."""

        async def work(plane: Plane) -> dict[str, Any]:
            async with plane.audit.act(OPERATOR_HERE, "projection.backfill", "projection", name):
                return {"projection": name, "items": await refill(plane, name)}

        return self._on(work)

    def rebuild(self, name: str, back: bool, tell: Callable[[str, int], None]) -> dict[str, Any]:
        """Build one projection anew, or go back to what was read before; then it is read."""

        async def work(plane: Plane) -> dict[str, Any]:
            do = plane.rollback if back else plane.rebuild
            action = f"projection.{'rollback' if back else 'rebuild'}"
            async with plane.audit.act(OPERATOR_HERE, action, "projection", name):
                return asdict(await do(named(plane, name), progress=tell))

        return self._on(work)

    def prune(self, names: Sequence[str]) -> list[str]:
        """Drop the collections that were read before."""

        async def work(plane: Plane) -> list[str]:
            wanted, detail = [named(plane, name) for name in names], {"projections": list(names)}
            async with plane.audit.act(OPERATOR_HERE, "projections.prune", "plane", detail=detail):
                return await plane.prune(*wanted)

        return self._on(work)

    def dead(self, name: str, keys: Sequence[str] | None, limit: int) -> list[dict[str, Any]]:
        """Dead letters of one projection."""

        async def work(plane: Plane) -> list[dict[str, Any]]:
            letters = plane.opened.journal.dead.letters
            found = await letters(collection_of(plane, name), keys=keys, limit=limit)
            return [asdict(letter) for letter in found]

        return self._on(work)

    def retry_dead(self, name: str, keys: Sequence[str] | None) -> dict[str, Any]:
        """Make dead letters due now."""

        async def work(plane: Plane) -> dict[str, Any]:
            where, told = collection_of(plane, name), keys_told(keys)
            async with plane.audit.act(OPERATOR_HERE, "dead.retry", "projection", name, told):
                found = await plane.opened.journal.dead.retry(where, keys)
            return {"projection": name, "rows": found}

        return self._on(work)

    def drop_dead(self, name: str, keys: Sequence[str] | None) -> dict[str, Any]:
        """Forget dead letters."""

        async def work(plane: Plane) -> dict[str, Any]:
            where, told = collection_of(plane, name), keys_told(keys)
            async with plane.audit.act(OPERATOR_HERE, "dead.drop", "projection", name, told):
                found = await plane.opened.journal.dead.unpark(where, keys)
            return {"projection": name, "rows": found}

        return self._on(work)

    def cache(self, *, clear: bool) -> tuple[dict[str, Any], int]:
        """What the request cache holds; and, when it is to be emptied, how many are deleted."""

        async def work(plane: Plane) -> tuple[dict[str, Any], int]:
            held = (await cache.held_in(plane)).model_dump()
            if not clear:
                return held, 0
            async with plane.audit.act(OPERATOR_HERE, "cache.clear", "plane"):
                return held, await cache.store_of(plane).clear()

        return self._on(work)

    def sagas(self, verb: str, *what: Any, **asked: Any) -> Any:
        """What `plane.sagas` answers to list, show, cancel or retry."""

        async def work(plane: Plane) -> Any:
            do = getattr(plane.sagas, verb)
            if verb not in ("cancel", "retry"):
                found = await do(*what, **asked)
                return [asdict(it) for it in found] if isinstance(found, list) else asdict(found)
            saga_id = str(what[0])
            async with plane.audit.act(OPERATOR_HERE, f"saga.{verb}", "saga", saga_id, asked):
                return asdict(await do(*what, **asked))

        return self._on(work)

    def audit(self, asked: dict[str, Any], before: int | None, limit: int) -> list[dict[str, Any]]:
        """Lines of audit, the newest first."""

        async def work(plane: Plane) -> list[dict[str, Any]]:
            wanted = wanted_of(asked)
            found = await plane.audit.search(**wanted, before=before or EVERYTHING, limit=limit)
            return [asdict(it) for it in found]

        return self._on(work)

    def verify_audit(self, seals: Path | None, tell: Callable[[int, int], None]) -> dict[str, Any]:
        """What a verify of audit finds."""

        async def work(plane: Plane) -> dict[str, Any]:
            about = await plane.audit.about()
            found = await plane.audit.verify(seals=seals, progress=lambda n: tell(n, about))
            return found.as_json()

        return self._on(work)

    def export_audit(
        self,
        asked: dict[str, Any],
        by: Caller,
        write: Callable[[bytes], Any],
        tell: Callable[[int, int], None],
    ) -> None:
        """Give `write` the lines of audit with their proofs."""

        async def work(plane: Plane) -> None:
            await plane.audit(by, "audit.export", "audit", detail=asked)
            about = await plane.audit.about()
            wanted = wanted_of(asked)
            async for line in plane.audit.export(progress=lambda n: tell(n, about), **wanted):
                write(line)

        self._on(work)

    def on(self, work: Callable[[Plane], Awaitable[T]]) -> T:
        """Whatever else is to be done on the plane."""
        return self._on(work)

    def asked(self, work: Callable[[Call], Awaitable[T]]) -> T:
        """What `work` comes to, given the plane's own routes, without a socket."""

        async def on(plane: Plane) -> T:
            app = create_app(plane, plane.declared.applications)
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app),
                base_url="http://127.0.0.1/api/v1/",
                headers={"Authorization": f"Bearer {ops_token(plane.settings.home)}"},
            ) as client:

                async def call(method: str, path: str, **given: Any) -> Any:
                    answer = await client.request(
                        method, path, params=given.pop("parameters", None), **given
                    )
                    if answer.is_error:
                        raise error_of(answer)
                    return answer.json() if answer.content else None

                return await work(call)

        return self._on(on)

    def _on(self, work: Callable[[Plane], Awaitable[T]]) -> T:
        self._report.redactor = logs.configure(settings=self._settings)

        async def run() -> T:
            plane = Plane(applications=self._program.load_applications(), settings=self._settings)
            await plane.open(lambda line: self._report.show(Text(line, "dim")))
            try:
                return await work(plane)
            finally:
                await plane.close()

        return uvloop.run(run())


def wanted_of(asked: dict[str, Any]) -> Filter:
    """Which lines of audit are asked for."""
    given = dict(asked)
    for name in ("since", "until"):
        if name in given:
            given[name] = datetime.fromisoformat(given[name])
    return cast(Filter, given)


def _heard(tell: Tell) -> Callable[[Far], None]:
    return lambda far: tell(*astuple(far))
