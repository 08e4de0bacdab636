"""The sagas of an open plane: what they are done with, and when they begin and stop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from polyplane.errors import NotSettled
from polyplane.flow.crew import Crew
from polyplane.model.position import Token
from polyplane.runtime.declared import Declared
from polyplane.runtime.opening import Open
from polyplane.saga.course import Means
from polyplane.saga.runner import Runner
from polyplane.truth.sagas import SagaJournal


def start_sagas(declared: Declared, opened: Open, plane: Any, stack: AsyncExitStack) -> None:
    """Do sagas in this process until the stack unwinds. Epochs that end do not concern them."""
    if not declared.sagas:
        return
    projections = {it.name: it for it in declared.projections}

    async def settled(token: Token, names: Sequence[str], timeout_s: float) -> None:
        wanted = names or [*projections, *declared.elsewhere]
        if not all(name in projections for name in wanted):
            raise NotSettled("Only another process knows.")
        await plane.settled(token, *(projections[name] for name in wanted), timeout_s=timeout_s)

    means = Means(
        database=opened.database,
        journal=SagaJournal(opened.database),
        plane=plane,
        epoch=lambda: opened.epoch,
        settled=settled,
        wake_in=lambda after_s: runner.wake_in(after_s),
    )
    runner = Runner(declared.sagas, means)
    crew = Crew()
    crew.add("sagas", runner.run)
    opened.runner = runner
    stack.push_async_callback(runner.give_back)
    stack.push_async_callback(crew.stop)
    stack.push_async_callback(runner.drain)
