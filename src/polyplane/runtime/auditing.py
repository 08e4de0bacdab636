"""What `plane.audit` offers: leave a line, look at lines, prove them, hand them out with proofs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Unpack

from polyplane.errors import Refused
from polyplane.flow.seal_places import seals_in
from polyplane.model.audit import DONE, AuditRow
from polyplane.model.caller import Caller
from polyplane.model.digest import canonical
from polyplane.reconcile.auditing import Tell, prove_trail
from polyplane.reconcile.trail import Audited
from polyplane.runtime.opening import Open
from polyplane.runtime.sealing import places_outside, trusted_keys
from polyplane.security.merkle import proof
from polyplane.security.sealing import Leaf, Seal
from polyplane.settings import Settings
from polyplane.truth import session
from polyplane.truth.audit import EVERYTHING, Filter, Trail, Wanted

PAGE_MAX: Final = 200
ASKED: Final = "asked"
FAILED: Final = "failed"


class Audit:
    """The audit of a plane. What `tx` writes is in it already; this is for all else."""

    def __init__(self, opened: Open, settings: Settings) -> None:
        self._opened = opened
        self._settings = settings
        self._trail = Trail(opened.truth.audit)

    async def __call__(
        self,
        caller: Caller,
        action: str,
        resource_type: str,
        resource_id: str | None = None,
        detail: dict[str, Any] | None = None,
        *,
        outcome: str = DONE,
    ) -> None:
        """Note a sensitive read, or what happens outside of truth; durable when this returns."""
        opened = self._opened
        async with session.write(opened.database, caller=caller, epoch=opened.epoch) as tx:
            tx.audit(action, resource_type, resource_id, detail, outcome=outcome)

    @asynccontextmanager
    async def act(
        self,
        caller: Caller,
        action: str,
        resource_type: str,
        resource_id: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> AsyncIterator[None]:
        """Do something that is not one transaction: nothing of it is done without a line.

        The first says that it was asked for; a second one, that it failed and by which error.
        """
        await self(caller, action, resource_type, resource_id, detail, outcome=ASKED)
        try:
            yield
        except Exception as error:
            failed = {"error": type(error).__name__}
            await self(caller, action, resource_type, resource_id, failed, outcome=FAILED)
            raise

    async def search(
        self, *, before: int = EVERYTHING, limit: int = 50, **wanted: Unpack[Filter]
    ) -> list[AuditRow]:
        """The newest lines that fit, of those before number `before`; at most 200.

        `wanted` is what they must fit; an action may be `row.*`: all such.
        """
        if not 1 <= limit <= PAGE_MAX:
            raise Refused(f"limit must be from 1 to {PAGE_MAX}.", field="limit")
        return await self._trail.search(Wanted(**wanted), before=before, limit=limit)

    async def verify(self, *, seals: Path | None = None, progress: Tell | None = None) -> Audited:
        """Find what was edited, deleted, inserted, moved, cut off or sealed by somebody else.

        Compared with the seals of the home's file and the object store, or in the file `seals`.
        `progress` hears how many rows are compared.
        """
        outside = places_outside(self._opened, self._settings)
        if seals is not None:
            outside = {str(seals): lambda: seals_in(seals)}
        return await prove_trail(self._trail, trusted_keys(self._settings), outside, tell=progress)

    async def about(self) -> int:
        """About how many lines there are."""
        return await self._trail.about()

    async def export(
        self, *, progress: Callable[[int], None] | None = None, **wanted: Unpack[Filter]
    ) -> AsyncIterator[bytes]:
        """The lines that fit, the newest first, as JSON lines, each with the proof that it is
        under a seal; before the first of a seal, the seal. `reconcile.handed` checks them.
        """
        before, rows, fit = EVERYTHING, 0, Wanted(**wanted)
        known: dict[int, tuple[Seal, list[Leaf]]] = {}
        while page := await self._trail.search(fit, before=before, limit=PAGE_MAX):
            before = page[-1].seq
            seals = await self._trail.seals_over(sorted(row.seq for row in page))
            for seal in seals:
                if seal.number not in known:
                    known[seal.number] = (seal, await self._trail.leaves(seal))
                    yield canonical({"seal": asdict(seal)}) + b"\n"
            known = {it.number: known[it.number] for it in seals}
            under = {leaf.seq: it for it in known.values() for leaf in it[1]}
            for row in page:
                yield canonical(_handed(row, under.get(row.seq))) + b"\n"
            rows += len(page)
            if progress is not None:
                progress(rows)


def _handed(row: AuditRow, under: tuple[Seal, list[Leaf]] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"row": asdict(row)}
    if under is None:
        return found
    seal, leaves = under
    index = next(n for n, leaf in enumerate(leaves) if leaf.seq == row.seq)
    steps = proof([leaf.hash for leaf in leaves], index)
    return {**found, "under": seal.number, "proof": steps}
