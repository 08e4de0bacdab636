"""The plan of a saga: whatever crashes when, it is done once or undone whole, in reverse."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, strategies as st

import polyplane as pp
from polyplane import saga
from polyplane.errors import Misconfigured, Refused, TooLarge
from polyplane.model.saga import Kind, document
from polyplane.saga.plan import Adopt, Aside, Do, End, Turn, Undo, plan, turned
from polyplane.truth.sagas import Live, Past

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def nothing(*_: Any) -> None:
    """What steps do is told by the test."""


def step(name: str, kind: str, *, undo: bool = True, version: int = 1) -> saga.Step:
    """A step of that kind."""
    how: dict[str, Any] = {"name": name, "version": version, "undo": nothing if undo else None}
    return saga.local(nothing, **how) if kind == "local" else saga.remote(nothing, **how)


def declared(*steps: saga.Step, **how: Any) -> type[pp.Saga[Any]]:
    """A saga of these steps."""
    made: type[pp.Saga[Any]] = type("Trip", (pp.Saga,), {"steps": steps, **how})
    return made


def fresh(kind: type[pp.Saga[Any]], **how: Any) -> Live:
    """One that has just begun, in the hands of who began it."""
    marks = tuple(it.mark for it in kind.steps)
    named: dict[str, Any] = {
        "id": uuid4(),
        "tenant": "default",
        "name": kind.name,
        "version": kind.version,
        "marks": marks,
        "input": {},
        "actor": "",
        "state": "running",
        "at": marks[0].name,
        "since": NOW,
        "attempt": 0,
        "entered": 1,
        "fence": 1,
        "news": 0,
        "adopt": False,
        "cancelled": None,
        "error": "",
        "deadline_at": None,
        "now": NOW,
        "steps": [],
    }
    return Live(**{**named, **how})


class World:
    """A journal and the effects beside it; each turn something happens that `chance` names."""

    def __init__(self, kind: type[pp.Saga[Any]]) -> None:
        self.kind = kind
        self.live = fresh(kind)
        self.begun = False
        self.effects: list[tuple[str, str]] = []

    def crash(self) -> None:
        """Another process takes it up, and knows the journal only."""
        self.live.fence += 1
        self.begun = False

    def turn(self, chance: str) -> bool:
        """One thing of the plan, ended by `chance`; whether there is more to do."""
        found = plan(self.kind, self.live, begun=self.begun)
        match found:
            case Do():
                self._do(found, chance)
            case Undo():
                self._undo(found, chance)
            case Turn():
                self._back(found, chance)
            case End(state=state):
                self.live.state = state
            case Adopt() | Aside():
                raise AssertionError(found)
        return self.live.state in ("running", "undoing")

    def _do(self, it: Do, chance: str) -> None:
        live, is_local = self.live, it.step.kind is Kind.LOCAL
        if chance == "cancel":
            live.cancelled = "cancelled"
        elif chance == "crash_before":
            self.crash()
        elif chance in ("refuse", "fail") and is_local:  # rolled back
            self._failed(it, refuses=chance == "refuse")
        elif chance in ("refuse", "fail", "fail_late", "crash_between") and not is_local:
            self.begun = True
            if chance in ("fail_late", "crash_between"):
                self.effects.append(("do", it.step.name))
            if chance == "crash_between":
                self.crash()
            else:
                self._failed(it, refuses=chance == "refuse")
        else:
            self.effects.append(("do", it.step.name))
            live.steps.append(Past(it.n, it.step.name, 1, "done"))
            live.at, live.attempt, live.entered = it.following, 0, live.fence
            self.begun = False
            if not it.following and live.cancelled is None:
                live.state = "done"
            if chance == "crash_after":
                self.crash()

    def _failed(self, it: Do, *, refuses: bool) -> None:
        live = self.live
        if not refuses and live.attempt < 2:
            live.attempt += 1
            self.crash()  # given up; whoever takes it up has another fence
            return
        self.begun = not (refuses and live.attempt == 0 and live.entered == live.fence)
        found = turned(self.kind, live, "failed", begun=self.begun)
        assert isinstance(found, Turn)
        self._back(found, "")

    def _back(self, it: Turn, chance: str) -> None:
        live = self.live
        if chance == "crash_before":
            self.crash()
            return
        if it.unknown:
            live.steps.append(Past(len(live.steps), it.unknown.name, 1, "unknown"))
        live.state, live.at, live.attempt = ("undoing" if it.first else "undone"), it.first, 0
        if chance == "crash_after":
            self.crash()

    def _undo(self, it: Undo, chance: str) -> None:
        live = self.live
        if chance == "crash_before" or (chance == "fail" and it.step.kind is Kind.LOCAL):
            self.crash()
            return
        self.effects.append(("undo", it.step.name))
        if chance in ("crash_between", "fail_late") and it.step.kind is Kind.REMOTE:
            self.crash()
            return
        live.steps[:] = [p._replace(undone=True) if p.n == it.past.n else p for p in live.steps]
        live.at = it.following
        live.state = "undoing" if it.following else "undone"
        if chance == "crash_after":
            self.crash()


CHANCES = st.sampled_from(
    [
        "ok",
        "ok",
        "ok",
        "crash_before",
        "crash_between",
        "crash_after",
        "fail",
        "fail_late",
        "refuse",
        "cancel",
    ]
)
STEPS = st.lists(st.tuples(st.sampled_from(["local", "remote"]), st.booleans()), min_size=1)


@given(STEPS.filter(lambda it: len(it) <= 8), st.lists(CHANCES, max_size=40))
def test_it_is_done_once_or_undone_whole_in_reverse(
    shape: list[tuple[str, bool]], chances: list[str]
) -> None:
    kind = declared(*(step(f"s{n}", it, undo=undo) for n, (it, undo) in enumerate(shape)))
    world = World(kind)
    for chance in [*chances, *["ok"] * 20]:
        if not world.turn(chance):
            break
    assert world.live.state in ("done", "undone")
    done = [name for what, name in world.effects if what == "do"]
    undone = [name for what, name in world.effects if what == "undo"]
    local = {it.name for it in kind.steps if it.kind is Kind.LOCAL}
    once = [name for name in done if name in local]
    assert once == sorted(set(once)), "a local step was done twice, or not in turn"
    assert list(dict.fromkeys(done)) == sorted(set(done))
    if world.live.state == "done":
        assert set(done) == {it.name for it in kind.steps} and undone == []
        return
    first_undo = world.effects.index(("undo", undone[0])) if undone else len(world.effects)
    assert all(what == "undo" for what, _ in world.effects[first_undo:])
    assert list(dict.fromkeys(undone)) == sorted(set(undone), reverse=True)
    back = [name for name in undone if name in local]
    assert len(back) == len(set(back)), "a local undo was done twice"
    for it in kind.steps:
        if it.undo is not None and it.name in done:
            assert it.name in undone, "an undo is missing"
        if it.kind is Kind.LOCAL or it.undo is None:
            assert it.name in done or it.name not in undone


def reached(kind: type[pp.Saga[Any]], *done: str, **how: Any) -> Live:
    """One that has done these steps, in other hands than before."""
    steps = [Past(n, name, 1, "done") for n, name in enumerate(done)]
    todo = [it.name for it in kind.steps if it.name not in done]
    return fresh(kind, steps=steps, at=todo[0] if todo else "", fence=2, **how)


OLD = (step("a", "local"), step("b", "remote"), step("c", "local"))


def test_other_steps_are_treated_as_declared() -> None:
    """Stopped, undone or gone on with: inserted, missing, moved, another version."""
    old = declared(*OLD)
    longer = (*OLD, step("d", "local"))
    before = (step("x", "local"), *OLD)
    newer = (step("a", "local", version=2), *OLD[1:])
    for steps in (longer, before, newer, OLD[:2], (OLD[1], OLD[0], OLD[2])):
        found = plan(declared(*steps), reached(old, "a"))
        assert isinstance(found, Aside) and found.state == "changed" and "a v1" in found.why
    assert isinstance(plan(declared(*OLD, version=2), reached(old, "a")), Aside)
    go_on = {"changed": "go-on"}
    assert plan(declared(*longer, **go_on), reached(old, "a")) == Adopt("b", None)
    assert isinstance(plan(declared(*before, **go_on), reached(old, "a")), Aside)
    assert isinstance(plan(declared(*newer, **go_on), reached(old, "a")), Aside)
    # The remote step b may have been begun, and nobody would undo it.
    without = declared(OLD[0], OLD[2], **go_on)
    assert isinstance(plan(without, reached(old, "a")), Aside)
    clean = reached(old, "a", entered=2)
    assert plan(without, clean) == Adopt("c", None)
    better = declared(OLD[0], step("b", "remote", version=2), OLD[2], **go_on)
    assert plan(better, reached(old, "a")) == Adopt("b", None)
    undo = declared(*longer, changed="undo")
    found = plan(undo, reached(old, "a"))
    assert isinstance(found, Turn) and (found.first, found.unknown) == ("b", OLD[1].mark)
    assert isinstance(plan(declared(OLD[1], changed="undo"), reached(old, "a")), Aside)


def test_what_was_made_with_the_saga_is_undone_though_no_step_began() -> None:
    """Only at the step that says so: of those behind it nothing can have taken effect."""
    first = unbegun("a")
    kind, plain = declared(first, OLD[1], unbegun("c")), declared(OLD[1])
    assert plan(plain, fresh(plain, cancelled="No.")) == Turn("No.", "", None)
    found = plan(kind, fresh(kind, cancelled="No."))
    assert found == Turn("No.", "a", first.mark)
    assert turned(kind, fresh(kind), "refused", begun=False) == Turn("refused", "a", first.mark)
    behind = reached(kind, "a", entered=2, cancelled="No.")
    assert plan(kind, behind) == Turn("No.", "a", None)


def unbegun(name: str) -> saga.Step:
    """A step whose undo is done unbegun, too."""
    return saga.remote(nothing, name=name, undo=nothing, undo_unbegun=True)


def test_people_may_go_on_with_what_has_changed() -> None:
    """By names: what is done is not done again, what is new is, and nothing unknown is lost."""
    old = declared(*OLD)
    now = declared(step("x", "local"), step("c", "local"), step("a", "local"))
    assert plan(now, reached(old, "a", adopt=True)) == Adopt("x", OLD[1].mark)
    assert plan(declared(OLD[0]), reached(old, "a", entered=2, adopt=True)) == Adopt("", None)
    live = reached(old, "a", state="undoing")
    assert isinstance(plan(now, live), Aside)
    live.adopt = True
    found = plan(now, live)
    assert isinstance(found, Undo) and found.following == ""
    live.steps.append(Past(1, "b", 1, "unknown"))  # whose undo is declared no more
    assert isinstance(plan(now, live), Undo)


def test_a_declaration_that_cannot_work_is_refused() -> None:
    with pytest.raises(Misconfigured):
        declared()
    with pytest.raises(Misconfigured):
        declared(OLD[0], OLD[0])
    with pytest.raises(Misconfigured):
        declared(step("No name", "local"))
    with pytest.raises(Misconfigured):
        declared(saga.settled("seen"))
    with pytest.raises(Misconfigured):
        declared(OLD[0], changed="perhaps")
    with pytest.raises(Misconfigured):
        declared(saga.remote(nothing, name="a", undo_unbegun=True))


def test_a_document_is_read_back_as_it_was_kept() -> None:
    assert document({"b": (1, 2), "a": NOW}, "x")[1] == {"a": NOW.isoformat(), "b": [1, 2]}
    for odd in (object(), {1: 2}, 2**70, "\x00"):
        with pytest.raises(pp.Refused):
            document(odd, "x")
    with pytest.raises(TooLarge):
        document("x" * 300_000, "x")


def test_pauses_grow_to_a_bound() -> None:
    retries = saga.Retries(first_wait_s=1, last_wait_s=10)
    assert [retries.wait_s(n, 1.0) for n in (1, 2, 3, 5, 5000)] == [1, 2, 4, 10, 10]
    assert retries.wait_s(3, 0.0) == 0


@pytest.mark.parametrize("text", ["\0", "a\0b", "\\\0", "\\\\\0"])
def test_a_zero_character_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="zero character"):
        document({"said": [text]}, "The result")


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "\x01"])
def test_what_only_looks_like_one_is_kept(text: str) -> None:
    assert document({"said": text}, "The result")[1] == {"said": text}
