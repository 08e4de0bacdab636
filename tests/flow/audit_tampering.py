"""What somebody with the whole database, but not the key, may do to audit; and audit in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

from polyplane.model.audit import AuditRow, content_hash
from polyplane.reconcile.auditing import prove_trail
from polyplane.reconcile.trail import Audited
from polyplane.security.merkle import root
from polyplane.security.sealing import Leaf, Seal, SealingKey, Span, sealed

PAGE: Final = 50
BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)
EVE: Final = SealingKey("Y2hhbm5lbC1vZi1ldmUtd2hvLXdvdWxkLXNlYWwuLi4")


@dataclass
class Books:
    """All that there is of audit; the database has the rows and seals, others have `outside`."""

    rows: list[AuditRow] = field(default_factory=list)
    seals: list[Seal] = field(default_factory=list)
    outside: list[Seal] = field(default_factory=list)
    cluster: str = "7"

    async def proven(self, keys: Collection[str]) -> Audited:
        """What a verify says of them."""
        lines = [it.line.encode() for it in self.outside]
        return await prove_trail(Shelf(self), keys, {"a file": lambda: pages(lines)})

    def copy(self) -> Books:
        """To be tampered with."""
        return replace(self, rows=list(self.rows), seals=list(self.seals))


class Shelf:
    """Books as `prove_trail` reads a database."""

    def __init__(self, books: Books) -> None:
        self._rows = sorted(books.rows, key=lambda it: it.seq)
        self._seals = sorted(books.seals, key=lambda it: it.number)
        self._cluster = books.cluster

    async def cluster(self) -> str:
        """Which one."""
        return self._cluster

    async def seals(self, after: int = 0, upto: int = 1 << 62) -> AsyncIterator[list[str]]:
        """In order."""
        yield [it.line for it in self._seals if after < it.number <= upto]

    async def rows(self, first: int, last: int) -> AsyncIterator[list[AuditRow]]:
        """In order."""
        async for page in pages([it for it in self._rows if first <= it.seq <= last]):
            yield page

    async def beside(self, covered: Sequence[Span]) -> AsyncIterator[list[AuditRow]]:
        """In order."""
        sealed_ = {seq for first, last in covered for seq in range(first, last + 1)}
        async for page in pages([it for it in self._rows if it.seq not in sealed_]):
            yield page


async def pages(things: list[Any]) -> AsyncIterator[list[Any]]:
    """Some at a time."""
    for start in range(0, len(things), PAGE):
        yield things[start : start + PAGE]


def written(row: AuditRow) -> AuditRow:
    """The row with the hash of its content."""
    return replace(row, content=content_hash(row.document()))


def books_of(chance: Random, key: SealingKey, windows: int) -> Books:
    """A history: windows of rows that are committed in any order, with gaps, and their seals."""
    books, seq, xid = Books(), 0, 100
    now = BEGAN
    late: list[AuditRow] = []
    for _ in range(windows):
        now += timedelta(seconds=chance.choice((1, 1, 5, 400)))
        fresh, late = late, []
        for _ in range(chance.randrange(1, 9)):
            seq += chance.choice((1, 1, 1, 2, 5))
            xid += 1
            row = _row(chance, seq, xid, now)
            (late if chance.random() < 0.15 else fresh).append(row)
        running = ",".join(str(it.xid) for it in late)
        xmin = min([xid + 1, *(it.xid for it in late)])
        snapshot = f"{xmin}:{xid + 1}:{running}"
        fresh.sort(key=lambda it: it.seq)
        books.rows += fresh
        _seal(books, fresh, snapshot, now, key, limit=chance.choice((3, 100)))
    books.outside = list(books.seals)
    return books


def _row(chance: Random, seq: int, xid: int, now: datetime) -> AuditRow:
    at = now - timedelta(microseconds=chance.randrange(900_000))
    after = {"n": chance.randrange(5), "x": chance.random(), "name": "***"}
    return written(
        AuditRow(
            seq,
            at,
            chance.choice(("a", "b")),
            chance.choice(("user:1", "user:2")),
            chance.choice(("row.created", "row.changed")),
            "public.thing",
            str(chance.randrange(9)),
            chance.choice((None, {"n": 9})),
            after,
            None,
            "",
            "",
            "done",
            "",
            xid,
        )
    )


def _seal(
    books: Books,
    rows: list[AuditRow],
    snapshot: str,
    now: datetime,
    key: SealingKey,
    limit: int,
) -> None:
    for start in range(0, len(rows), limit):
        page = rows[start : start + limit]
        seal = sealed(
            books.seals[-1] if books.seals else None,
            [Leaf(it.seq, bytes.fromhex(it.content)) for it in page],
            at=now.isoformat(),
            snapshot=snapshot,
            cluster=books.cluster,
            is_page=start + limit < len(rows),
            key=key,
        )
        books.seals.append(seal)


# The six kinds. Each takes books and gives others.


def edit(books: Books, chance: Random) -> None:
    """A field of a row, with its hash or without."""
    index = chance.randrange(len(books.rows))
    row = books.rows[index]
    changes: list[dict[str, Any]] = [
        {"actor": row.actor + "x"},
        {"tenant": "c"},
        {"action": "row.deleted"},
        {"resource_id": "77"},
        {"after": {**(row.after or {}), "n": 77}},
        {"before": {"n": -1}},
        {"detail": {}},
        {"address": "10.0.0.1"},
        {"outcome": "failed"},
        {"at": row.at + timedelta(microseconds=chance.choice((1, 10**6, 10**10)))},
    ]
    changed = replace(row, **chance.choice(changes))
    books.rows[index] = written(changed) if chance.random() < 0.5 else changed


def delete(books: Books, chance: Random) -> None:
    """One row, or some; or a seal with its rows."""
    if chance.random() < 0.3:
        seal = books.seals.pop(chance.randrange(len(books.seals)))
        books.rows = [it for it in books.rows if not _is_under(it, seal)]
    else:
        for _ in range(chance.choice((1, 1, 3))):
            books.rows.pop(chance.randrange(len(books.rows)))


def insert(books: Books, chance: Random) -> None:
    """A row that is said to be of then: in a gap of the numbers, in front, or behind."""
    known = {it.seq for it in books.rows}
    model = chance.choice(books.rows)
    free = [it for it in range(-3, max(known) + 3) if it not in known]
    row = replace(model, seq=chance.choice(free), actor="user:mallory")
    if chance.random() < 0.5:  # or as a new transaction, that says it was long ago
        row = replace(row, xid=10**9, at=model.at - timedelta(days=chance.choice((1, 900))))
    books.rows.append(written(row))


def reorder(books: Books, chance: Random) -> None:
    """Two rows change places."""
    while True:
        i, j = chance.randrange(len(books.rows)), chance.randrange(len(books.rows))
        one, other = books.rows[i], books.rows[j]
        if one.content != other.content:
            books.rows[i] = replace(one, seq=other.seq)
            books.rows[j] = replace(other, seq=one.seq)
            return


def cut(books: Books, chance: Random) -> None:
    """The tail: the last seals, with their rows or without."""
    at = chance.randrange(len(books.seals))
    gone, books.seals = books.seals[at:], books.seals[:at]
    if chance.random() < 0.7:
        books.rows = [it for it in books.rows if not any(_is_under(it, seal) for seal in gone)]


def rehash(books: Books, chance: Random) -> None:
    """A row is edited, and all from its seal on is made anew; only the key is another one."""
    at = chance.randrange(len(books.seals))
    under = [n for n, it in enumerate(books.rows) if _is_under(it, books.seals[at])]
    index = chance.choice(under)
    books.rows[index] = written(replace(books.rows[index], actor="user:nobody"))
    way = chance.choice(("own key", "own key, other name", "old signature"))
    for n in range(at, len(books.seals)):
        old = books.seals[n]
        rows = sorted((it for it in books.rows if _is_under(it, old)), key=lambda it: it.seq)
        leaves = [Leaf(it.seq, bytes.fromhex(it.content)).hash for it in rows]
        previous = books.seals[n - 1].hash if n else old.previous
        new = replace(old, root=root(leaves).hex(), previous=previous)
        if way != "old signature":
            new = EVE.signed(new)
        if way == "own key, other name":
            new = replace(new, key=old.key)
        books.seals[n] = new


KINDS: Final[dict[str, Callable[[Books, Random], None]]] = {
    "edit": edit,
    "delete": delete,
    "insert": insert,
    "reorder": reorder,
    "cut": cut,
    "rehash": rehash,
}


def _is_under(row: AuditRow, seal: Seal) -> bool:
    return any(first <= row.seq <= last for first, last in seal.seqs)
