"""What to do next with a saga: a pure function of what is declared and what is journalled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from polyplane.model.saga import Kind, Mark, Saga, Step
from polyplane.truth.sagas import Live, Past


class Do(NamedTuple):
    """Do this step, to be noted as the `n`th; `following` is the next, or '' after the last."""

    step: Step
    n: int
    following: str


class Undo(NamedTuple):
    """Undo what was noted as `past`; `following` is undone next, '' after the last."""

    step: Step
    past: Past
    following: str


class Turn(NamedTuple):
    """Undo all from now on, `first` first ('': nothing); `unknown` may have taken effect."""

    why: str
    first: str
    unknown: Mark | None


class Adopt(NamedTuple):
    """Go on by what is declared now, at the step `at`; '' when all of that is done."""

    at: str
    unknown: Mark | None


class End(NamedTuple):
    """There is nothing left: "done" or "undone"."""

    state: str


class Aside(NamedTuple):
    """Leave it to people: "stuck" or "changed"."""

    state: str
    why: str


Next = Do | Undo | Turn | Adopt | End | Aside


def plan(saga: type[Saga[Any]], live: Live, *, begun: bool = False) -> Next:
    """What comes next. `begun`: this process has begun the step that the saga is at."""
    if live.state == "undoing":
        return _undoing(saga, live)
    if live.cancelled is not None:
        return turned(saga, live, live.cancelled or "Cancelled.", begun=begun)
    if not is_same(saga, live):
        return _changed(saga, live, begun)
    todo = _todo(saga, live)
    if not todo:
        return End("done")
    return Do(todo[0], len(live.steps), todo[1].name if len(todo) > 1 else "")


def turned(saga: type[Saga[Any]], live: Live, why: str, *, begun: bool) -> Turn | Aside:
    """The way back. What has no undo any more is left to people, unless they know of it."""
    always = {step.name for step in saga.steps if step.undo_unbegun}
    unknown = _unknown(live, begun=begun or live.at in always)
    steps = list(live.steps)
    if unknown is not None:
        steps.append(Past(len(steps), unknown.name, unknown.version, "unknown"))
    todo = _to_undo(saga, live, steps)
    missing = [past.name for past, step in todo if step is None]
    if missing and not live.adopt:
        return Aside("changed", f"{why} But the undo of {missing[0]} is declared no more.")
    return Turn(why, next((past.name for past, step in todo if step), ""), unknown)


def is_same(saga: type[Saga[Any]], live: Live) -> bool:
    """Whether the saga is declared as it was when it began."""
    return saga.version == live.version and tuple(it.mark for it in saga.steps) == live.marks


def _todo(saga: type[Saga[Any]], live: Live) -> list[Step]:
    done = {past.name for past in live.steps if past.outcome == "done"}
    return [step for step in saga.steps if step.name not in done]


def _unknown(live: Live, *, begun: bool) -> Mark | None:
    """The remote step that it is at, if that may have taken effect and can be undone.

    Nobody knows of a try that ended with its process. But there was none if the saga came to this
    step in these hands.
    """
    at = next((mark for mark in live.marks if mark.name == live.at), None)
    if at is None or at.kind != Kind.REMOTE or not at.undoable:
        return None
    clean = not begun and live.attempt == 0 and live.entered == live.fence
    return None if clean else at


def _to_undo(
    saga: type[Saga[Any]], live: Live, steps: Sequence[Past]
) -> list[tuple[Past, Step | None]]:
    """What is to be undone, the latest first, by what; None where that is declared no more."""
    undoable = {mark.name for mark in live.marks if mark.undoable}
    declared = {step.name: step for step in saga.steps if step.undo is not None}
    seen, found = set(), []
    for past in reversed(steps):
        if past.name in seen:
            continue
        seen.add(past.name)
        if not past.undone and (past.name in undoable or past.name in declared):
            found.append((past, declared.get(past.name)))
    return found


def _undoing(saga: type[Saga[Any]], live: Live) -> Undo | End | Aside:
    if saga.changed == "stop" and not is_same(saga, live) and not live.adopt:
        return Aside("stuck", _difference(saga, live))
    todo = _to_undo(saga, live, live.steps)
    missing = [past.name for past, step in todo if step is None]
    if missing and not live.adopt:
        return Aside("stuck", f"The undo of {missing[0]} is declared no more.")
    left = [(past, step) for past, step in todo if step is not None]
    if not left:
        return End("undone")
    past, step = left[0]
    return Undo(step, past, left[1][0].name if len(left) > 1 else "")


def _changed(saga: type[Saga[Any]], live: Live, begun: bool) -> Turn | Adopt | Aside:
    """What is declared for a saga that began when its steps were others."""
    why = _difference(saga, live)
    todo = _todo(saga, live)
    at = todo[0].name if todo else ""
    unknown = _unknown(live, begun=begun)
    if unknown is not None and unknown.name == at:
        unknown = None  # it is tried again, under the same key
    if live.adopt:
        return Adopt(at, unknown)
    if saga.changed == "undo":
        return turned(saga, live, why, begun=begun)
    if saga.changed == "go-on" and unknown is None and _begins_alike(saga, live):
        return Adopt(at, None)
    return Aside("changed", why)


def _begins_alike(saga: type[Saga[Any]], live: Live) -> bool:
    """Whether all that is done is declared as it was, and first."""
    done = len(live.steps)
    marks = {mark.name: mark for mark in live.marks}
    was = [marks.get(past.name) for past in live.steps]
    return was == [step.mark for step in saga.steps[:done]]


def _difference(saga: type[Saga[Any]], live: Live) -> str:
    was = ", ".join(f"{mark.name} v{mark.version}" for mark in live.marks)
    now = ", ".join(f"{step.name} v{step.version}" for step in saga.steps)
    if (was, live.version) == (now, saga.version):
        return "It began with steps of other kinds, or with other undos, than are declared now."
    return f"It began as v{live.version} ({was}); declared is v{saga.version} ({now})."
