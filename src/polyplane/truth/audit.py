"""What truth knows of audit: its rows, and the seals over them. Each call is one statement."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, TypedDict, cast

from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from polyplane.model.audit import AuditRow
from polyplane.security.sealing import Leaf, Seal, Span, spans_of, start_after
from polyplane.truth.database import Database
from polyplane.truth.statements import statement

EVERYTHING: Final = (1 << 63) - 1
SEAL_ROWS: Final = 10_000
PAGE_ROWS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are looked for: those that fit all that is given.

    An `action` may end in `*`. `since` is the first moment, `until` the one after the last.
    """

    tenant: str | None = None
    actor: str | None = None
    action: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def told(self) -> Filter:
        """What is given, by name."""
        found = {name: value for name, value in asdict(self).items() if value is not None}
        return cast(Filter, found)


class Filter(TypedDict, total=False):
    """The same, to be given by name."""

    tenant: str
    actor: str
    action: str
    resource_type: str
    resource_id: str
    since: datetime
    until: datetime


class Unsealed(NamedTuple):
    """Committed rows under no seal yet, in the order of their numbers, and where they were read."""

    rows: list[Leaf]
    snapshot: str
    is_page: bool
    """There are more."""


class Trail:
    """The rows of audit and their seals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def _rows(self, block: str, /, **given: Any) -> list[Any]:
        return await self._database.rows(
            statement("audit", block), given, timeout_s=self._database.statement_timeout_s
        )

    async def cluster(self) -> str:
        """Which database this is; another one after it was restored elsewhere."""
        return str((await self._rows("head"))[0][0])

    async def head(self) -> tuple[str, Seal | None]:
        """The present cluster, and the last seal. Raises ValueError when that is none."""
        ((cluster, line),) = await self._rows("head")
        return cluster, None if line is None else Seal.parse(line)

    async def unsealed(
        self, head: Seal | None, cluster: str, *, limit: int = SEAL_ROWS
    ) -> Unsealed:
        """What has become visible since the last seal; at most `limit` rows of it."""
        start = start_after(head, cluster)
        after = (head.number if head else 0) - start.pages
        found = await self._rows("unsealed", prev=start.snapshot, after=after, rows=limit + 1)
        rows = [Leaf(seq, bytes(content)) for _, seq, content in found if seq is not None]
        return Unsealed(rows[:limit], found[0][0], len(rows) > limit)

    async def seal(self, seal: Seal) -> bool:
        """Store a seal; False when somebody else has sealed meanwhile."""
        given = {"number": seal.number, "snapshot": seal.snapshot, "pages": seal.pages}
        return bool(await self._rows("seal", seqs=_multirange(seal.seqs), line=seal.line, **given))

    async def seals(self, after: int = 0, upto: int = EVERYTHING) -> AsyncIterator[list[str]]:
        """The lines of the seals with these numbers, in order, page by page."""
        while found := await self._rows("seals", after=after, upto=upto, limit=PAGE_ROWS):
            yield [line for _, line in found]
            after = found[-1][0]

    async def rows(self, first: int, last: int) -> AsyncIterator[list[AuditRow]]:
        """Rows by number, page by page."""
        while found := await self._rows("rows", first=first, last=last, limit=PAGE_ROWS):
            page = [AuditRow(*row) for row in found]
            yield page
            first = page[-1].seq + 1

    async def beside(self, covered: Sequence[Span]) -> AsyncIterator[list[AuditRow]]:
        """Rows whose numbers are not among these, page by page."""
        after, spans = -EVERYTHING, _multirange(covered)
        while found := await self._rows("beside", after=after, covered=spans, limit=PAGE_ROWS):
            page = [AuditRow(*row) for row in found]
            yield page
            after = page[-1].seq

    async def about(self) -> int:
        """About how many rows there are."""
        return int((await self._rows("count"))[0][0])

    async def seals_over(self, seqs: Sequence[int]) -> list[Seal]:
        """The seals that these rows, in the order of their numbers, are under."""
        found = await self._rows("seals_over", seqs=_multirange(spans_of(seqs)))
        return [Seal.parse(line) for (line,) in found]

    async def leaves(self, seal: Seal) -> list[Leaf]:
        """What a seal is over, in its order."""
        first, last = seal.seqs[0][0], seal.seqs[-1][1]
        found = await self._rows("leaves", first=first, last=last, seqs=_multirange(seal.seqs))
        return [Leaf(seq, bytes(content)) for seq, content in found]

    async def search(
        self, wanted: Wanted, *, before: int = EVERYTHING, limit: int = 50
    ) -> list[AuditRow]:
        """The newest rows that fit, of those before the number `before`."""
        found = await self._rows("search", before=before, limit=limit, **asdict(wanted))
        return [AuditRow(*row) for row in found]

    async def exported(self, place: str) -> int:
        """The number of the last seal that `place` is known to have."""
        found = await self._rows("exported", place=place)
        return int(found[0][0]) if found else 0

    async def note_exported(self, place: str, number: int) -> None:
        """Note that `place` has the seals up to this number."""
        await self._rows("note_exported", place=place, number=number)


def _multirange(spans: Sequence[Span]) -> Multirange[int]:
    return Multirange([Range(first, last + 1) for first, last in spans])
