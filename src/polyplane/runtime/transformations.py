"""What `plane.transformations` offers, and how this process does them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from polyplane.errors import Conflict, NotFound, NotSettled, PolyplaneError, Refused
from polyplane.flow.crew import Crew
from polyplane.flow.transform_runner import TransformRunner
from polyplane.flow.transforming import Transforming
from polyplane.model.table import table_name, table_of
from polyplane.model.transformation import (
    DryRun,
    Transformation,
    TransformationLetter,
    TransformationRecord,
    form_of,
)
from polyplane.runtime.declared import Declared
from polyplane.runtime.opening import Open
from polyplane.truth.scan import count_rows, rows_about, source_of
from polyplane.truth.transforms import Live, TransformJournal

AnyTransformation = type[Transformation[Any, Any]]
Which = AnyTransformation | str
"""A transformation, or its name."""

_POLL_S: Final = 0.1
LETTERS_PAGE_MAX: Final = 1_000


def start_transformations(declared: Declared, opened: Open, stack: AsyncExitStack) -> None:
    """Do transformations in this process until the stack unwinds."""
    if not declared.transformations:
        return
    truth = opened.truth
    runner = TransformRunner(
        declared.transformations, truth.app, truth.projector, lambda: opened.epoch
    )
    crew = Crew()
    crew.add("transformations", runner.run)
    stack.push_async_callback(runner.give_back)
    stack.push_async_callback(crew.stop)


class Transformations:
    """The transformations of a plane. Any process may ask; those with flows do them."""

    def __init__(self, declared: Declared, opened: Open) -> None:
        self._declared = {it.name: it for it in declared.transformations}
        self._opened = opened
        self._journal = TransformJournal(opened.database)

    async def start(self, which: Which, *, actor: str = "", anew: bool = False) -> str:
        """Have one run, from where it was; "new", "on" or "joined" says how it goes on.

        From the first row with `anew`, at the first time, when its version is another, and when it
        is done and nobody can tell what has changed since. Raises Conflict when it is running in
        another version, NotFound when it is not declared.
        """
        found = self._known(which)
        form, truth = form_of(found), self._opened.truth
        source = source_of(found.source)
        about = await rows_about(truth.projector, source)
        if about is None:
            about = await count_rows(truth.projector, source)
        how = await self._journal.begin(
            found.name,
            found.version,
            actor=actor,
            epoch=self._opened.epoch,
            about=about,
            anew=anew,
            follows=form.follows,
        )
        if how == "other":
            raise Conflict(
                f"{found.name} is running in another version.",
                fix=f"Begin again: polyplane transform run {found.name} --anew",
            )
        return how

    async def finished(
        self,
        which: Which,
        *,
        timeout_s: float = 3600.0,
        progress: Callable[[TransformationRecord], None] | None = None,
    ) -> TransformationRecord:
        """Return when it runs no more; it is then "done", "stopped" or "failed".

        Raises NotSettled when it still runs after `timeout_s` seconds (it goes on).
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while (record := await self.show(which)).state == "running":
            if progress is not None:
                progress(record)
            if loop.time() > until:
                raise NotSettled(
                    f"{record.name} has not ended within {timeout_s:g} s.",
                    fix=f"It goes on. See: polyplane transform status {record.name}",
                )
            await asyncio.sleep(_POLL_S)
        return record

    async def run(
        self,
        which: Which,
        *,
        actor: str = "",
        anew: bool = False,
        timeout_s: float = 3600.0,
        progress: Callable[[TransformationRecord], None] | None = None,
    ) -> TransformationRecord:
        """Start it and wait until it is done. Raises what `start` and `finished` raise, and
        PolyplaneError when it failed.
        """
        await self.start(which, actor=actor, anew=anew)
        record = await self.finished(which, timeout_s=timeout_s, progress=progress)
        if record.state == "failed":
            raise PolyplaneError(
                record.error, fix=f"To go on: polyplane transform run {record.name}"
            )
        return record

    async def dry_run(
        self,
        which: Which,
        *,
        rows: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> DryRun:
        """What would come of the first `rows` rows (default: of all). Each page is written and
        rolled back, so constraints are met; what contradicts rows of another page is not found.
        """
        found = self._known(which)
        opened = self._opened
        pools = opened.truth.app, opened.truth.projector
        nowhere = Live(found.name, 0, "", "rows", None, opened.epoch, "", None, 0, 0, False)
        work = Transforming(form_of(found), nowhere, *pools, lambda: opened.epoch)
        return await work.rehearse(rows, progress)

    async def records(self) -> list[TransformationRecord]:
        """All that are declared, and how far they are."""
        noted = await self._journal.records(list(self._declared)) if self._declared else {}
        return [_record(it, noted.get(name)) for name, it in self._declared.items()]

    async def show(self, which: Which) -> TransformationRecord:
        """How far one is."""
        found = self._known(which)
        return _record(found, (await self._journal.records([found.name])).get(found.name))

    async def stop(self, which: Which) -> TransformationRecord:
        """Stop it where it is; `start` goes on. Raises Conflict when it does not run."""
        found = self._known(which)
        if not await self._journal.stop(found.name):
            raise Conflict(f"{found.name} does not run.")
        return await self.show(found)

    async def dead(
        self,
        which: Which,
        *,
        keys: Sequence[str] | None = None,
        after: str = "",
        limit: int = 100,
    ) -> list[TransformationLetter]:
        """At most `limit` dead letters (of `keys`, if given) behind the key `after`."""
        if not 1 <= limit <= LETTERS_PAGE_MAX:
            raise Refused(f"limit is 1 to {LETTERS_PAGE_MAX:,}.", field="limit")
        name = self._known(which).name
        return await self._journal.letters(name, keys=keys, after=after, limit=limit)

    async def retry_dead(self, which: Which, keys: Sequence[str] | None = None) -> int:
        """Have letters (None: all) tried again at once; how many. What works leaves the list.

        Raises Conflict when they are of another version of the transformation.
        """
        found = self._known(which)
        rows = await self._journal.retry(found.name, found.version, keys)
        if rows is None:
            raise Conflict(
                f"The letters of {found.name} are of another version of it.",
                fix=f"Take all rows again: polyplane transform run {found.name}",
            )
        return rows

    async def drop_dead(self, which: Which, keys: Sequence[str] | None = None) -> int:
        """Forget letters (None: all); how many. The target stays as it is."""
        return await self._journal.drop(self._known(which).name, keys)

    def _known(self, which: Which) -> AnyTransformation:
        name = which if isinstance(which, str) else which.name
        found = self._declared.get(name)
        if found is None or not (isinstance(which, str) or which is found):
            raise NotFound(
                f"This plane declares no transformation {name!r}.",
                fix="See: polyplane transform list",
            )
        return found


def _record(it: AnyTransformation, noted: dict[str, Any] | None) -> TransformationRecord:
    tables = {"source": table_name(table_of(it.source)), "target": table_name(table_of(it.target))}
    return TransformationRecord(
        **{"name": it.name, "version": it.version, **(noted or {}), **tables}
    )
