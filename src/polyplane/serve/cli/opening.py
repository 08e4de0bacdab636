"""A command's work on a plane opened for it, when no `up` runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, astuple
from typing import Any, TypeVar

import uvloop
from rich.text import Text

from polyplane.model.drift import Far
from polyplane.plane import Plane
from polyplane.runtime.proving import BOOKMARK_NAME
from polyplane.serve.api.operator import collection_of, mendable, named, provable, refill
from polyplane.serve.cli import logs
from polyplane.serve.cli.program import Program
from polyplane.serve.cli.report import Report
from polyplane.settings import Settings

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
            things = mendable(plane, names)
            return asdict(await plane.repair(*things, progress=_heard(tell), **asked))

        return self._on(work)

    def lag(self) -> list[dict[str, Any]]:
        """How far every projection is."""

        async def work(plane: Plane) -> list[dict[str, Any]]:
            return [asdict(lag) for lag in await plane.lag()]

        return self._on(work)

    def backfill(self, name: str) -> dict[str, Any]:
        """Derive all of one projection anew."""

        async def work(plane: Plane) -> dict[str, Any]:
            return {"projection": name, "items": await refill(plane, name)}

        return self._on(work)

    def rebuild(self, name: str, back: bool, tell: Callable[[str, int], None]) -> dict[str, Any]:
        """Build one projection anew, or go back to what was read before; then it is read."""

        async def work(plane: Plane) -> dict[str, Any]:
            act = plane.rollback if back else plane.rebuild
            return asdict(await act(named(plane, name), progress=tell))

        return self._on(work)

    def prune(self, names: Sequence[str]) -> list[str]:
        """Drop the collections that were read before."""

        async def work(plane: Plane) -> list[str]:
            return await plane.prune(*(named(plane, name) for name in names))

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
            found = await plane.opened.journal.dead.retry(collection_of(plane, name), keys)
            return {"projection": name, "rows": found}

        return self._on(work)

    def drop_dead(self, name: str, keys: Sequence[str] | None) -> dict[str, Any]:
        """Forget dead letters."""

        async def work(plane: Plane) -> dict[str, Any]:
            found = await plane.opened.journal.dead.unpark(collection_of(plane, name), keys)
            return {"projection": name, "rows": found}

        return self._on(work)

    def sagas(self, verb: str, *what: Any, **asked: Any) -> Any:
        """What `plane.sagas` answers to list, show, cancel or retry."""

        async def work(plane: Plane) -> Any:
            found = await getattr(plane.sagas, verb)(*what, **asked)
            return [asdict(it) for it in found] if isinstance(found, list) else asdict(found)

        return self._on(work)

    def on(self, work: Callable[[Plane], Awaitable[T]]) -> T:
        """Whatever else is to be done on the plane."""
        return self._on(work)

    def _on(self, work: Callable[[Plane], Awaitable[T]]) -> T:
        logs.configure()

        async def run() -> T:
            plane = Plane(applications=self._program.load_applications(), settings=self._settings)
            await plane.open(lambda line: self._report.show(Text(line, "dim")))
            try:
                return await work(plane)
            finally:
                await plane.close()

        return uvloop.run(run())


def _heard(tell: Tell) -> Callable[[Far], None]:
    return lambda far: tell(*astuple(far))
