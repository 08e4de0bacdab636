"""Sagas: work in several stores, declared as steps that are done in turn or undone in reverse."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final, Generic, Literal
from uuid import UUID

import orjson
from typing_extensions import TypeVar

from polyplane.errors import Misconfigured, Refused, TooLarge
from polyplane.model.projection import snake

In = TypeVar("In", bound=Mapping[str, object], default=dict[str, Any])

DOCUMENT_BYTES_MAX: Final = 256 << 10
"""Of an input, a result or a signal's payload, as JSON."""
STEPS_MAX: Final = 100
_ZERO: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""A zero character in JSON text, and not the six characters that one is written with."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failed step is tried again, and after which pause.

    Before try n + 1 it waits a random time up to `first_wait_s` * 2^(n - 1), but at most
    `last_wait_s`. After `attempts_max` tries it is over.
    """

    attempts_max: int = 10
    first_wait_s: float = 0.2
    last_wait_s: float = 60.0

    def wait_s(self, failed: int, chance: float) -> float:
        """How long to wait after `failed` tries; `chance` is from 0 to 1, drawn by the caller."""
        return chance * min(self.last_wait_s, self.first_wait_s * 2.0 ** min(failed - 1, 60))


UNDO_RETRIES: Final = Retries(attempts_max=100, first_wait_s=0.2, last_wait_s=60.0)
"""For most of an hour; then the saga is stuck, until somebody retries it."""


@dataclass(frozen=True, slots=True)
class Context(Generic[In]):
    """What a step is told. It is the same at every try, but for `attempt` and `deadline`."""

    saga_id: UUID
    input: In
    results: Mapping[str, Any]
    """By name, of the steps that are done. An undo finds its own step's here, unless nobody knows
    whether that was done."""
    attempt: int
    """1 at the first try. A try that ended with its process is not counted."""
    idempotency_key: str
    """The same at every try of this step (or of its undo), and nowhere else: to be given to whom a
    remote step calls, so that it does the same thing only once."""
    deadline: datetime | None
    """When this try is given up."""
    tenant: str
    actor: str
    plane: Any
    """The plane that runs it."""
    error: str = ""
    """To an undo: why all is undone."""


Do = Callable[[Any, Context[Any]], Awaitable[Any]]
RemoteDo = Callable[[Context[Any]], Awaitable[Any]]


class Kind(StrEnum):
    """What a step is: see `local`, `remote`, `signal`, `pause` and `settled`."""

    LOCAL = "local"
    REMOTE = "remote"
    SIGNAL = "signal"
    PAUSE = "pause"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a saga; made by `local`, `remote`, `signal`, `pause` or `settled`."""

    name: str
    kind: Kind
    version: int = 1
    do: Callable[..., Any] | None = None
    undo: Callable[..., Any] | None = None
    retries: Retries = Retries()
    undo_retries: Retries = UNDO_RETRIES
    timeout_s: float = 30.0
    deadline_s: float | None = None
    final: tuple[type[Exception], ...] = ()
    after: str = ""
    projections: tuple[str, ...] = ()
    undo_unbegun: bool = False

    @property
    def mark(self) -> Mark:
        """What of it must not change while a saga is under way."""
        return Mark(self.name, self.version, self.kind.value, self.undo is not None)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a saga that is under way knows of a step as it was declared when the saga began."""

    name: str
    version: int
    kind: str
    undoable: bool


def local(
    do: Do,
    *,
    name: str = "",
    undo: Do | None = None,
    version: int = 1,
    retries: Retries = Retries(),
    undo_retries: Retries = UNDO_RETRIES,
    timeout_s: float = 30.0,
    deadline_s: float | None = None,
    final: Sequence[type[Exception]] = (),
) -> Step:
    """A step in PostgreSQL: `async def do(tx, context) -> result`. Its effect happens once.

    What it writes with `tx` (a `Write`) and the note that it is done are one transaction. It must
    do nothing else that is to happen once. `result` is a JSON document, or None. An exception is
    tried again by `retries`, but for `SagaRefused` and the `final` ones; each try may take
    `timeout_s` seconds and all of them `deadline_s`. Then the saga is undone. `undo` has the form
    of `do`, and is one transaction too. `name` is the function's, if not given.
    """
    return Step(
        name or do.__name__,
        Kind.LOCAL,
        version,
        do,
        undo,
        retries,
        undo_retries,
        timeout_s,
        deadline_s,
        tuple(final),
    )


def remote(
    do: RemoteDo,
    *,
    name: str = "",
    undo: RemoteDo | None = None,
    version: int = 1,
    retries: Retries = Retries(),
    undo_retries: Retries = UNDO_RETRIES,
    timeout_s: float = 30.0,
    deadline_s: float | None = None,
    final: Sequence[type[Exception]] = (),
    undo_unbegun: bool = False,
) -> Step:
    """A step elsewhere: `async def do(context) -> result`. It happens at least once.

    It is called again after an exception, a timeout or a crash, with the same
    `context.idempotency_key`. `undo` must be right also when the step never took effect, or did so
    in part: it is called whenever nobody knows. It is not when the first try of all raises
    `SagaRefused` or a `final` exception: these say that nothing was done. With `undo_unbegun` it is
    called then, too, and when the saga turns back before this step has begun: for what was made
    together with the saga. No transaction is open meanwhile. Else as `local`.
    """
    return Step(
        name or do.__name__,
        Kind.REMOTE,
        version,
        do,
        undo,
        retries,
        undo_retries,
        timeout_s,
        deadline_s,
        tuple(final),
        undo_unbegun=undo_unbegun,
    )


def signal(name: str, *, version: int = 1, deadline_s: float | None = None) -> Step:
    """Wait for what `plane.sagas.signal(saga_id, name, payload)` brings; its result is the payload.

    A signal may come before the saga waits for it. After `deadline_s` without one all is undone.
    """
    return Step(name, Kind.SIGNAL, version, deadline_s=deadline_s)


def pause(
    name: str, until: float | Callable[[Context[Any]], datetime], *, version: int = 1
) -> Step:
    """Wait for `until` seconds, or until the time that it returns (with a time zone).

    Its result is the time at which it was over. No process is kept busy meanwhile.
    """
    made = until if callable(until) else None
    deadline_s = None if callable(until) else float(until)
    return Step(name, Kind.PAUSE, version, made, deadline_s=deadline_s)


def settled(
    name: str,
    *projections: type[Any],
    after: str = "",
    version: int = 1,
    deadline_s: float | None = None,
) -> Step:
    """Wait until `projections` (default: all) show what the local step `after` has written.

    Without `after`, what the last local step before this one has. Its result is the token, as text.
    After `deadline_s` all is undone.
    """
    names = tuple(projection.name for projection in projections)
    return Step(name, Kind.SETTLED, version, deadline_s=deadline_s, after=after, projections=names)


class Saga(Generic[In]):
    """Steps in several stores, all done or all undone. Subclass and declare; never instantiated.

    `In` is the type of the input, a TypedDict or `dict[str, Any]`. `name` is how its journal knows
    it (default: the class name in snake case). `deadline_s`: seconds from its start, after which
    it is undone. `steps` are done in order.

    Raise a step's `version` when its code means something else. Sagas that began with other steps
    (names, order, versions) are then treated as `changed` says: "stop" leaves them aside, to be
    looked at; "undo" undoes them with the undos that are declared now; "go-on" goes on if all that
    is done is declared as it was, else stops.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    steps: ClassVar[tuple[Step, ...]] = ()
    deadline_s: ClassVar[float | None] = None
    changed: ClassVar[Literal["stop", "undo", "go-on"]] = "stop"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("name"):
            cls.name = snake(cls.__name__)
        check(cls)


def check(saga: type[Saga[Any]]) -> None:
    """Raise Misconfigured when a saga's declaration cannot work."""
    who, names = saga.__name__, [step.name for step in saga.steps]
    if odd := [name for name in (saga.name, *names) if not _NAME.fullmatch(name)]:
        raise Misconfigured(
            f"{who}: {odd[0]!r} is no name for a saga or a step.",
            fix="Use lower-case letters, digits and underscores, at most 63.",
        )
    if not 1 <= len(names) <= STEPS_MAX:
        raise Misconfigured(f"{who} has {len(names)} steps; from 1 to {STEPS_MAX} it may have.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Misconfigured(f"{who}: two steps are named {twice[0]!r}.")
    if saga.changed not in ("stop", "undo", "go-on"):
        raise Misconfigured(f"{who}.changed is {saga.changed!r}.", fix='"stop", "undo", "go-on".')
    for at, step in enumerate(saga.steps):
        before = [it.name for it in saga.steps[:at] if it.kind is Kind.LOCAL]
        if step.kind is Kind.SETTLED and not before:
            raise Misconfigured(
                f"{who}: {step.name} waits for a write, and no local step precedes."
            )
        if step.after and step.after not in before:
            raise Misconfigured(
                f"{who}: {step.name} waits for {step.after!r}, no local step before."
            )
        if step.timeout_s <= 0 or step.retries.attempts_max < 1:
            raise Misconfigured(f"{who}: {step.name} has no time, or no try.")
        if step.undo_unbegun and step.undo is None:
            raise Misconfigured(f"{who}: {step.name} has no undo to be done unbegun.")


def document(value: Any, what: str) -> tuple[str, Any]:
    """`value` as JSON text, and as it will be read back. `what` names it in errors.

    Raises Refused when it is no JSON, TooLarge beyond DOCUMENT_BYTES_MAX.
    """
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise Refused(f"{what} is no JSON: {error}.", field=what) from error
    if _ZERO.search(text):
        raise Refused(f"{what} holds a zero character, which PostgreSQL keeps not.", field=what)
    if len(text) > DOCUMENT_BYTES_MAX:
        raise TooLarge(
            f"{what} has {len(text):,} bytes as JSON; at most {DOCUMENT_BYTES_MAX:,} are kept.",
            field=what,
            fix="Keep a reference to it.",
        )
    return text.decode(), orjson.loads(text)


def key_of(saga_id: UUID, step: str, *, undo: bool = False) -> str:
    """The idempotency key of a step, or of its undo."""
    return f"{saga_id}:{step}:undo" if undo else f"{saga_id}:{step}"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What is journalled of a step: in this order they were done.

    `outcome` is "done", or "unknown" for a remote step of which nobody knows; `undone_at` when its
    undo was done. `token`: of a local step's transaction, to be waited for.
    """

    name: str
    version: int
    outcome: str
    attempts: int
    at: datetime
    result: Any = None
    token: str | None = None
    undone_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SagaRecord:
    """A saga as its journal has it.

    `state` is "running" or "undoing"; at the end "done" or "undone"; "stuck" when an undo does not
    work and "changed" when its code is another one: these two wait for somebody. `at` names the
    step it is at; `attempt` says how often that has failed; `next_at` when it is looked at again.
    `error` is the last error, or why it was undone; `undo_error` why an undo has failed last.
    """

    id: UUID
    tenant: str
    name: str
    key: str | None
    version: int
    state: str
    at: str
    attempt: int
    error: str
    undo_error: str
    actor: str
    input: Any
    started_at: datetime
    next_at: datetime | None
    ended_at: datetime | None
    held: bool
    cancelled: bool
    steps: tuple[StepRecord, ...] = field(default=())

    @property
    def has_ended(self) -> bool:
        """Whether it is done or undone."""
        return self.state in ("done", "undone")

    @property
    def results(self) -> dict[str, Any]:
        """The results of the steps that are done, by name."""
        return {step.name: step.result for step in self.steps if step.outcome == "done"}
