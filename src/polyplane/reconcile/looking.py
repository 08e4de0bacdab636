"""Looking at keys until it is certain which of them drift.

What differs may only be in flight. A round reads truth, waits until all that was committed by then
is applied, and reads the store: whatever was written to a key before truth was read shows in the
store's stamp by now. So a stamp that is as it was before the round belongs to the row that truth
has shown, and when its digest is another, the store is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from polyplane.model.items import Stamp

ROUNDS_MAX: Final = 6


class TruthOfKeys(Protocol):
    """What truth says of some keys, and when the store must have heard of it."""

    async def of(self, keys: list[str]) -> Mapping[str, str | None]:
        """The digests of `keys` now; rows that are not there, or derive nothing, are None."""
        ...

    async def caught_up(self) -> None:
        """Return when all that was committed before this call is applied to the store."""
        ...

    async def newest(self) -> int:
        """The packed position that nothing applied by now can be ahead of."""
        ...

    async def parked(self) -> set[str]:
        """The keys that wait in the dead letters of this projection."""
        ...


class StoreOfKeys(Protocol):
    """What a store holds under some keys of one collection."""

    @property
    def may_lack(self) -> bool:
        """Whether an item that is not there is no drift, as in a cache."""
        ...

    async def stamps(self, keys: Sequence[str]) -> list[Stamp]:
        """What is really held under `keys`."""
        ...


class Look(NamedTuple):
    """What truth derives under a key, and what the store holds: one stamp, if all is well."""

    expected: str | None
    held: tuple[Stamp, ...]

    def is_stuck(self, newest: int) -> bool:
        """Whether no ordinary change could mend it: one of several items, or ahead of all."""
        return len(self.held) > 1 or any(stamp.position > newest for stamp in self.held)

    def is_right(self, newest: int, *, may_lack: bool) -> bool:
        """Whether the store holds what it should."""
        digest = self.held[0].digest if self.held else None
        is_equal = digest == self.expected or (digest is None and may_lack)
        return is_equal and not self.is_stuck(newest)


class Findings(NamedTuple):
    """The keys that drift, by kind (see `Part`), and those that could not be judged."""

    missing: tuple[str, ...]
    stale: tuple[str, ...]
    extra: tuple[str, ...]
    stuck: tuple[str, ...]
    parked: tuple[str, ...]
    moving: tuple[str, ...]


def look_of(expected: Mapping[str, str | None], stamps: Iterable[Stamp]) -> dict[str, Look]:
    """The look at each key of `expected`."""
    held: dict[str, list[Stamp]] = {}
    for stamp in stamps:
        held.setdefault(stamp.key, []).append(stamp)
    return {key: Look(digest, tuple(held.get(key, ()))) for key, digest in expected.items()}


async def judge(suspects: dict[str, Look], truth: TruthOfKeys, store: StoreOfKeys) -> Findings:
    """Look at `suspects` again until each is right, or certainly wrong, or never rests."""
    drift: dict[str, tuple[Look, bool]] = {}
    for _ in range(ROUNDS_MAX):
        if not suspects:
            break
        seen = await look(list(suspects), truth, store)
        newest = await truth.newest()
        wrong = {k: s for k, s in seen.items() if not s.is_right(newest, may_lack=store.may_lack)}
        # Nothing is ever applied ahead of all changes: that needs no second look.
        certain = {
            key: (found, found.is_stuck(newest))
            for key, found in wrong.items()
            if found.held == suspects[key].held or found.is_stuck(newest)
        }
        drift |= certain
        suspects = {key: found for key, found in wrong.items() if key not in certain}
    parked = await truth.parked()
    kept = {key: found for key, found in drift.items() if key not in parked}
    kinds: dict[str, list[str]] = {"missing": [], "stale": [], "extra": []}
    for key in sorted(kept):
        kinds[_kind(*kept[key])].append(key)
    return Findings(
        **{kind: tuple(keys) for kind, keys in kinds.items()},
        stuck=tuple(key for key in sorted(kept) if kept[key][1]),
        parked=tuple(sorted(parked)),
        moving=tuple(sorted(suspects.keys() - parked)),
    )


async def look(keys: list[str], truth: TruthOfKeys, store: StoreOfKeys) -> dict[str, Look]:
    """What is under `keys`: truth first, then the store, when it has applied what truth showed."""
    expected = await truth.of(keys)
    await truth.caught_up()
    stamps = await store.stamps(keys)
    return look_of({key: expected.get(key) for key in keys}, stamps)


def _kind(found: Look, is_stuck: bool) -> str:
    if found.expected is None or (is_stuck and len(found.held) > 1):
        return "extra"
    if all(stamp.digest is None for stamp in found.held):
        return "missing"
    return "stale"
