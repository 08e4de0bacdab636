"""The request cache as a pure model, and the interleavings of all who have a hand in it.

`ModelStore` does in memory what the scripts do in the cache. `Interleavings` is a machine that puts
the steps of writers, recorders, loaders and readers in any order, lets any key vanish, and the
whole store go back to an older copy; it runs on the model and on the real thing.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from copy import deepcopy
from typing import Any, Final, Protocol, TypeVar

import orjson
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from polyplane.flow.recording import changed_of
from polyplane.model.message import Message
from polyplane.model.requests import Kept, Wanted, followed_of, standing
from polyplane.stores.request_protocol import Begun, Depend, Found, Mark, Verdict

T = TypeVar("T")

TABLE: Final = "public.thing"
ROWS: Final = ("a", "b")
WANTED: Final = {
    "row a": Wanted("acme", None, "row a", ((TABLE, "a"),)),
    "both": Wanted("acme", None, "both", ((TABLE, "a"), (TABLE, "b"))),
    "table": Wanted(None, None, "table", ((TABLE, None),)),
}
READS: Final = {"row a": ("a",), "both": ROWS, "table": ROWS}
EPOCH: Final = 1 << 40


class ModelStore:
    """What the scripts do, on dictionaries. Nothing ends by itself: that is left to `evict`."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.incarnation = b"run1"

    def place(self, wanted: Wanted) -> str:
        return f"{wanted.tenant}:cache:{wanted.key}"

    async def read(self, wanted: Wanted) -> Found | None:
        kept: Kept | None = self.keys.get(self.place(wanted))
        if kept is None:
            return None
        records = [self.keys.get(str(depend)) for depend in wanted.depends]
        shown = [None if it is None else str(it).encode() for it in records]
        counts = standing(kept, self.keys.get("chain"), self.incarnation, shown)
        return Found(kept, kept.token, counts, -1.0)

    async def begin(self, wanted: Wanted, token: bytes, *, seen: bytes, keep_ms: int) -> Begun:
        mark, lease = self.keys.get("mark"), f"load {wanted.key}"
        if mark is None or self.keys.get("chain") != followed_of(self.incarnation, mark["c"]):
            return Begun("unattended")
        held = self.keys.get(self.place(wanted))
        if held is not None and held.token != seen:
            return Begun("again")
        if lease in self.keys:
            return Begun("busy")
        self.keys[lease] = token
        mark["t"] |= {table for table, _ in wanted.depends}
        for depend in wanted.depends:
            self.keys.setdefault(str(depend), mark["h"])
        return Begun("begun", mark["c"], mark["h"])

    async def fill(
        self, wanted: Wanted, begun: Begun, kept: Kept, *, ttl_ms: int, stale_ms: int
    ) -> Verdict:
        lease, mark = f"load {wanted.key}", self.keys.get("mark")
        if self.keys.get(lease) != kept.token:
            return "lost"
        del self.keys[lease]
        if mark is None or mark["c"] != begun.chain:
            return "unattended"
        for depend in wanted.depends:
            if (at := self.keys.get(str(depend))) is None:
                return "evicted"
            if at > begun.position:
                return "changed"
        self.keys[self.place(wanted)] = kept
        return "filled"

    async def mark(self) -> Mark | None:
        mark = self.keys.get("mark")
        return None if mark is None else Mark(mark["c"], mark["d"], frozenset(mark["t"]))

    async def begin_chain(self, chain: bytes, position: int, *, instead: bytes) -> bool:
        mark = self.keys.get("mark")
        if (mark["c"] if mark else b"") != instead:
            return False
        self.keys.pop("chain", None)
        self.keys["mark"] = {"c": chain, "d": position, "h": position, "t": set()}
        return True

    async def record(self, chain: bytes, after: int, upto: int, some: Sequence[Depend]) -> bool:
        """The first half of `apply`: the records."""
        mark = self.keys.get("mark")
        if mark is None or mark["c"] != chain or mark["d"] < after:
            self.keys.pop("chain", None)
            return False
        mark["h"] = max(mark["h"], upto)
        for depend in some:
            if (at := self.keys.get(str(depend))) is not None:
                self.keys[str(depend)] = max(at, upto)
        return True

    async def note(self, chain: bytes, after: int, upto: int, *, vouch: bool) -> bool:
        """The second half: the mark."""
        if not await self.record(chain, after, upto, []):
            return False
        mark = self.keys["mark"]
        mark["d"] = max(mark["d"], upto)
        if vouch:
            self.keys["chain"] = followed_of(self.incarnation, chain)
        return True

    # Faults

    async def names(self) -> list[str]:
        return sorted(self.keys)

    async def evict(self, name: str) -> None:
        self.keys.pop(name, None)

    async def copied(self) -> Any:
        return deepcopy(self.keys)

    async def put_back(self, copy: Any, incarnation: bytes) -> None:
        self.keys, self.incarnation = deepcopy(copy), incarnation


class Steps(Protocol):
    """A store whose `apply` can be done by halves, and to which anything may happen."""

    async def record(self, chain: bytes, after: int, upto: int, some: Sequence[Depend]) -> bool: ...
    async def note(self, chain: bytes, after: int, upto: int, *, vouch: bool) -> bool: ...
    async def names(self) -> list[str]: ...
    async def evict(self, name: str) -> None: ...
    async def copied(self) -> Any: ...
    async def put_back(self, copy: Any, incarnation: bytes) -> None: ...


class Load:
    """A load under way: what it began with, and what it has read of truth."""

    def __init__(self, name: str, token: bytes, begun: Begun) -> None:
        self.name, self.token, self.begun = name, token, begun
        self.versions: dict[str, int] | None = None


class Recording:
    """A recorder under way, as `Recorder` goes: where it is, and what it is about to note."""

    def __init__(self) -> None:
        self.mark: Mark | None = None
        self.done = self.target = 0
        self.noting: int | None = None


class Interleavings(RuleBasedStateMachine):
    """Whatever the order of steps: no reader is given what is older than what the cache was told,
    and no fill takes the place of a newer one.
    """

    loads: list[Load]

    def make(self) -> Any:
        """The store to try."""
        return ModelStore()

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        """What `call` comes to; the model waits for nothing."""
        try:
            call.send(None)
        except StopIteration as done:
            found: T = done.value
            return found
        raise AssertionError("The model waited.")

    @initialize()
    def starts(self) -> None:
        self.store = self.make()
        self.versions = dict.fromkeys(ROWS, 0)
        self.waiting: list[str] = []
        self.stream: list[str] = []
        self.told = dict.fromkeys(ROWS, 0)
        """The version that the cache was told last, of each row."""
        self.loads = []
        self.recorders = [Recording(), Recording()]
        self.copy: Any = None
        self.tokens = self.runs = 1
        self.recorder_goes(who=0)

    def _number(self) -> bytes:
        self.tokens += 1
        return self.tokens.to_bytes(12, "big")

    # Truth and its changes

    @rule(row=st.sampled_from(ROWS), is_published=st.booleans())
    def writes(self, row: str, is_published: bool) -> None:
        self.versions[row] += 1
        self.waiting.append(row)
        if is_published:
            self.stream += self.waiting
            self.waiting = []

    # Who records them

    @rule(who=st.integers(0, 1))
    def recorder_begins(self, who: int) -> None:
        recorder, last = self.recorders[who], len(self.stream)
        recorder.noting = None
        mark = self.do(self.store.mark())
        if mark is None:
            self.do(self.store.begin_chain(self._number()[-8:], EPOCH + last, instead=b""))
            mark = self.do(self.store.mark())
        recorder.mark, recorder.done = mark, mark.done - EPOCH
        recorder.target = last

    @rule(who=st.integers(0, 1), count=st.integers(1, 3), dies=st.booleans())
    def recorder_goes(self, who: int, count: int = 3, dies: bool = False) -> None:
        """A batch: the records, then the mark; between the two it may pause, or die."""
        recorder = self.recorders[who]
        if recorder.mark is None or recorder.noting is not None:
            self.recorder_begins(who=who)
        upto = min(len(self.stream), recorder.done + count)
        messages = [
            Message("", orjson.dumps({"table": TABLE, "keys": [row]}))
            for row in self.stream[recorder.done : upto]
        ]
        now, known = self.do(self.store.mark()), recorder.mark
        if now is None or known is None or now.chain != known.chain:
            recorder.mark = None
            return
        changed, after = changed_of(messages, now.tables), EPOCH + recorder.done
        if not self.do(self.store.record(known.chain, after, EPOCH + upto, changed)):
            recorder.mark = None
            return
        recorder.noting = upto
        if not dies:
            self.recorder_notes(who=who)

    @rule(who=st.integers(0, 1))
    def recorder_notes(self, who: int) -> None:
        recorder = self.recorders[who]
        if recorder.mark is None or recorder.noting is None:
            return
        upto, chain = recorder.noting, recorder.mark.chain
        vouch, after = upto >= recorder.target, EPOCH + recorder.done
        noted = self.do(self.store.note(chain, after, EPOCH + upto, vouch=vouch))
        recorder.noting = None
        if not noted:
            recorder.mark = None
            return
        recorder.done = upto
        for row in ROWS:
            self.told[row] = max(self.told[row], self.stream[:upto].count(row))

    # Who loads

    @rule(name=st.sampled_from(sorted(WANTED)), reads=st.booleans())
    def loader_begins(self, name: str, reads: bool) -> None:
        found, token = self.do(self.store.read(WANTED[name])), self._number()
        seen = found.seen if found else b""
        begun = self.do(self.store.begin(WANTED[name], token, seen=seen, keep_ms=600_000))
        if begun.state == "begun" and len(self.loads) < 5:
            self.loads.append(Load(name, token, begun))
            if reads:
                self.loader_reads(index=len(self.loads) - 1)

    @precondition(lambda self: self.loads)
    @rule(index=st.integers(0, 4))
    def loader_reads(self, index: int) -> None:
        load = self.loads[index % len(self.loads)]
        if load.versions is None:
            load.versions = {row: self.versions[row] for row in READS[load.name]}

    @precondition(lambda self: any(it.versions for it in self.loads))
    @rule(index=st.integers(0, 4))
    def loader_fills(self, index: int) -> None:
        ready = [it for it in self.loads if it.versions]
        load = ready[index % len(ready)]
        self.loads.remove(load)
        wanted = WANTED[load.name]
        held = self.do(self.store.read(wanted))
        depends, body = orjson.dumps(wanted.depends), orjson.dumps(load.versions)
        given = (load.token, load.begun.chain, load.begun.position, 2**50, 1, depends, body)
        verdict = self.do(
            self.store.fill(wanted, load.begun, Kept(*given), ttl_ms=600_000, stale_ms=0)
        )
        if verdict == "filled" and held is not None:
            before, after = orjson.loads(held.kept.body), load.versions
            assert after is not None
            assert all(after[row] >= before[row] for row in before), "a newer one was overwritten"

    # What happens to the cache

    @rule(index=st.integers(0, 100))
    def evicts(self, index: int) -> None:
        if names := self.do(self.store.names()):
            self.vanishes(names[index % len(names)])

    def vanishes(self, name: str) -> None:
        """One key of the cache, whatever it is."""
        self.do(self.store.evict(name))

    @rule()
    def saves(self) -> None:
        self.copy = self.do(self.store.copied())

    @precondition(lambda self: self.copy is not None)
    @rule()
    def loses_its_tail(self) -> None:
        self.runs += 1
        self.do(self.store.put_back(self.copy, b"run%d" % self.runs))

    # What readers are given

    @invariant()
    def nobody_is_given_what_is_stale(self) -> None:
        if not hasattr(self, "store"):
            return
        for name, wanted in WANTED.items():
            found = self.do(self.store.read(wanted))
            if found is not None and found.standing == "good":
                given = orjson.loads(found.kept.body)
                assert all(given[row] >= self.told[row] for row in given), (name, given, self.told)
