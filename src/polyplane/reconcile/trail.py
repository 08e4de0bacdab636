"""audit verify: the chain of seals, the rows under them, and what places outside know of both.

Pure: it is given seals in the order of their numbers and rows in the order of theirs, and finds
what was edited, deleted, inserted, moved, cut off, or sealed anew by somebody without the key.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from polyplane.model.audit import AuditRow, content_hash
from polyplane.security.merkle import root
from polyplane.security.sealing import NOTHING, Leaf, Seal, Span, is_signed, is_visible, spans_of

SLACK_S: Final = 120.0
"""A row says when it was sent; it is committed a moment later, maybe by a machine whose clock is
another. It may be older by so much than the seal it was not under.
"""
FINDINGS_MAX: Final = 1_000
"""So many are named; all are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was sealed.

    `kind`: "edited", "deleted", "inserted", "forged" (a seal that no key of ours has signed),
    "broken" (the chain), "cut" (seals that are known outside are gone), "forked" (another seal is
    known outside).
    """

    kind: str
    seal: int | None
    seqs: tuple[Span, ...]
    what: str


@dataclass(slots=True)
class Audited:
    """What a verify has looked at and found. `waiting` rows are committed and not sealed yet.

    `head` is the last seal's number and `outside` that of the last one known outside.
    """

    rows: int = 0
    seals: int = 0
    head: int = 0
    outside: int | None = None
    waiting: int = 0
    found: int = 0
    findings: list[Finding] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether everything is as it was sealed."""
        return not self.found

    def add(self, kind: str, what: str, seal: int | None = None, seqs: Iterable[int] = ()) -> None:
        """One more thing that is not right."""
        self.found += 1
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(kind, seal, spans_of(seqs), what))

    def as_json(self) -> dict[str, Any]:
        """For people and programs."""
        return {**asdict(self), "is_whole": self.is_whole}


class Chain:
    """The seals, one after the other; and which rows they cover."""

    def __init__(self, keys: Collection[str], done: Audited, *, after: Seal | None = None) -> None:
        """`keys` are the public keys that may sign; `after`: the seal before the first."""
        self._keys = keys
        self._done = done
        self.head = after
        self.covered: list[Span] = []

    def add(self, line: str | bytes) -> Seal | None:
        """The next seal; None when it is none of ours."""
        done, head = self._done, self.head
        number = head.number + 1 if head else 1
        try:
            seal = Seal.parse(line)
        except ValueError:
            done.add("forged", f"Seal {number} cannot be read.", number)
            return None
        if not is_signed(seal, self._keys):
            done.add("forged", f"Seal {seal.number} is not signed by a key of ours.", seal.number)
            return None
        done.seals += 1
        if seal.number != number:
            what = f"After seal {number - 1} comes seal {seal.number}."
            done.add("broken", what, number)
        elif seal.previous != (head.hash if head else NOTHING):
            done.add("broken", f"Seal {number} does not follow seal {number - 1}.", number)
        elif seal.total != seal.rows + (head.total if head else 0):
            done.add("broken", f"Seal {number} has counted wrongly.", number)
        self._cover(seal)
        self.head = seal
        done.head = max(done.head, seal.number)
        return seal

    def _cover(self, seal: Seal) -> None:
        """Spans are disjoint, and kept in order and joined."""
        for first, last in seal.seqs:
            at = bisect_right(self.covered, (first, last))
            before = self.covered[at - 1] if at else None
            after = self.covered[at] if at < len(self.covered) else None
            if (before and before[1] >= first) or (after and after[0] <= last):
                what = f"Rows {first} to {last} of seal {seal.number} are under another one, too."
                self._done.add("broken", what, seal.number)
                continue
            if after and after[0] == last + 1:
                last = after[1]
                del self.covered[at]
            if before and before[1] == first - 1:
                self.covered[at - 1] = (before[0], last)
            else:
                self.covered.insert(at, (first, last))


class Outside:
    """What a place outside knows, against the seals of the database."""

    def __init__(self, name: str, keys: Collection[str], done: Audited) -> None:
        self._name = name
        self._keys = keys
        self._done = done
        self.last = 0

    def compare(self, lines: Iterable[str | bytes], ours: dict[int, Seal]) -> None:
        """Lines of the place; `ours` are the seals of the database with their numbers."""
        for line in lines:
            try:
                seal = Seal.parse(line)
            except ValueError:
                self._done.add("forged", f"{self._name} has a line that is no seal.")
                continue
            mine = ours.get(seal.number)
            if mine is not None and mine.line == seal.line:
                self.last = max(self.last, seal.number)
            elif not is_signed(seal, self._keys):
                what = f"{self._name} has a seal {seal.number} that no key of ours has signed."
                self._done.add("forged", what, seal.number)
            elif mine is None:
                self.last = max(self.last, seal.number)
                what = (
                    f"{self._name} has a seal {seal.number} over {seal.rows:,} rows that is gone."
                )
                self._done.add("cut", what, seal.number, _all(seal.seqs))
            else:
                self.last = max(self.last, seal.number)
                what = f"{self._name} has another seal {seal.number}."
                self._done.add("forked", what, seal.number)


def check_rows(seal: Seal, rows: Sequence[AuditRow], done: Audited) -> None:
    """The rows that there are of those under a seal, in the order of their numbers."""
    done.rows += len(rows)
    there = {row.seq for row in rows}
    if missing := [seq for seq in _all(seal.seqs) if seq not in there]:
        what = f"{len(missing):,} rows under seal {seal.number} are gone."
        done.add("deleted", what, seal.number, missing)
    leaves, edited = [], []
    oldest = _oldest(seal.since)
    for row in rows:
        content = content_hash(row.document())
        leaves.append(Leaf(row.seq, bytes.fromhex(content)).hash)
        if content != row.content:
            edited.append(row.seq)
        elif oldest and row.at < oldest:
            what = f"Row {row.seq} says it is older than a seal that it is not under."
            done.add("inserted", what, seal.number, [row.seq])
    if edited:
        what = f"{len(edited):,} rows are not what was written."
        done.add("edited", what, seal.number, edited)
    elif not missing and root(leaves).hex() != seal.root:
        what = f"A row under seal {seal.number} is not what was sealed."
        done.add("edited", what, seal.number, _all(seal.seqs))


def check_unsealed(row: AuditRow, head: Seal | None, cluster: str, done: Audited) -> None:
    """A row that is under no seal: it waits for the next one, or should be under an older one."""
    if head is None:
        done.waiting += 1
        return
    oldest = _oldest(head.since if head.pages else head.at)
    was_there = not head.pages and head.cluster == cluster and is_visible(row.xid, head.snapshot)
    if was_there or (oldest and row.at < oldest):
        done.add("inserted", f"Row {row.seq} is under no seal, and is no new one.", None, [row.seq])
    elif content_hash(row.document()) != row.content:
        done.add("edited", f"Row {row.seq} is not what was written.", None, [row.seq])
    else:
        done.waiting += 1


def _oldest(since: str) -> datetime | None:
    if not since:
        return None
    return datetime.fromisoformat(since).astimezone(UTC) - timedelta(seconds=SLACK_S)


def _all(spans: Iterable[Span]) -> Iterable[int]:
    return (seq for first, last in spans for seq in range(first, last + 1))
