"""Sagas whose effects can be counted: rows that local steps write, calls that remote ones make."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import saga
from tests.flow.things import by_hand

QUICK = saga.Retries(attempts_max=3, first_wait_s=0.01, last_wait_s=0.02)


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Line(Base):
    """One effect of a local step."""

    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True)
    saga: Mapped[str]
    what: Mapped[str]


Behave = Callable[[saga.Context[Any]], Awaitable[Any]]


class Outside:
    """Where remote steps do their work: it knows each call, and may misbehave."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.behave: dict[str, Behave] = {}
        self.came = asyncio.Event()

    def step(self, name: str, *, undo: bool = True, **how: Any) -> saga.Step:
        """A remote step, and its undo `not <name>`."""

        async def back(context: saga.Context[Any]) -> Any:
            return await self._call(f"not {name}", context)

        async def do(context: saga.Context[Any]) -> Any:
            return await self._call(name, context)

        how = {"retries": QUICK, "undo_retries": QUICK, **how}
        return saga.remote(do, name=name, undo=back if undo else None, **how)

    async def _call(self, name: str, context: saga.Context[Any]) -> Any:
        self.calls.append((name, context.idempotency_key))
        self.came.set()
        behave = self.behave.get(name)
        return await behave(context) if behave else {"called": name, "attempt": context.attempt}

    @property
    def names(self) -> list[str]:
        """Which calls came, in order."""
        return [name for name, _ in self.calls]


def writes(name: str, *, undo: bool = True, then: Behave | None = None, **how: Any) -> saga.Step:
    """A local step that writes a line, and its undo that writes `not <name>`."""

    async def do(tx: pp.Write, context: saga.Context[Any]) -> Any:
        tx.add(Line(saga=str(context.saga_id), what=name))
        await tx.flush()
        return await then(context) if then else {"wrote": name}

    async def back(tx: pp.Write, context: saga.Context[Any]) -> None:
        tx.add(Line(saga=str(context.saga_id), what=f"not {name}"))

    how = {"retries": QUICK, "undo_retries": QUICK, **how}
    return saga.local(do, name=name, undo=back if undo else None, **how)


def declared(*steps: saga.Step, name: str = "trip", **how: Any) -> type[pp.Saga[dict[str, Any]]]:
    """A saga of these steps."""
    made: type[pp.Saga[dict[str, Any]]] = type(
        "Trip", (pp.Saga,), {"name": name, "steps": steps, **how}
    )
    return made


async def lines(plane: pp.Plane) -> list[str]:
    """What local steps have written, in order."""
    return [what for (what,) in await by_hand(plane, "SELECT what FROM line ORDER BY id")]


async def failing(context: saga.Context[Any]) -> None:
    """Never works, and says so only by an exception."""
    raise RuntimeError("no luck")


async def refusing(context: saga.Context[Any]) -> None:
    """Can never work."""
    raise saga.SagaRefused("never")


def flaky(times: int) -> Behave:
    """Works after so many tries."""

    async def behave(context: saga.Context[Any]) -> Any:
        if context.attempt <= times:
            raise RuntimeError("not yet")
        return {"attempt": context.attempt}

    return behave
