"""Read your writes: wait until stores show a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from polyplane.errors import NotSettled
from polyplane.model.position import Token
from polyplane.truth.journal import Journal

_FIRST_POLL_S: Final = 0.004
_LAST_POLL_S: Final = 0.1

Reads = Callable[[], Sequence[tuple[str, str]]]
"""(collection, table) of what must have applied it; asked often: rebuilds add some, retire some."""


async def settled(journal: Journal, token: Token, reads: Reads, *, timeout_s: float) -> None:
    """Return when every collection of `reads()` (collection, table) has applied the write `token`.

    Raises NotSettled after `timeout_s`, naming who is behind.
    """
    await _applied(
        journal,
        lambda: journal.is_relayed(token),
        f"The write {token}",
        token.epoch,
        reads,
        timeout_s,
    )


async def caught_up(
    journal: Journal,
    epoch: Callable[[], int],
    reads: Reads,
    *,
    timeout_s: float,
) -> None:
    """Return when `reads()` have applied everything that was committed before this call.

    `epoch` gives the present one; should it end meanwhile, the wait goes on in the next. Raises
    NotSettled after `timeout_s`, naming who is behind.
    """
    cut = await journal.cut()
    deadline = asyncio.get_running_loop().time() + timeout_s
    began = -1
    while began != epoch():
        began = epoch()
        left_s = deadline - asyncio.get_running_loop().time()
        await _applied(
            journal,
            partial(journal.is_cut_relayed, began, cut),
            "What is committed",
            began,
            reads,
            left_s,
            is_over=partial(_is_over, epoch, began),
        )


def _is_over(epoch: Callable[[], int], began: int) -> bool:
    return epoch() != began


async def _applied(
    journal: Journal,
    is_relayed: Callable[[], Awaitable[bool]],
    what: str,
    epoch: int,
    reads: Reads,
    timeout_s: float,
    is_over: Callable[[], bool] = bool,
) -> None:
    """Return when all is applied, or the epoch `is_over`."""
    waiting_for = "the relay"
    try:
        async with asyncio.timeout(timeout_s):
            pause = _FIRST_POLL_S
            while not is_over() and not await is_relayed():
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LAST_POLL_S)
            # What is published now covers it; later writes must not prolong the wait.
            behind = await journal.behind(epoch, reads())
            needed = {(row.collection, row.bucket): row.order for row in behind}
            pause = _FIRST_POLL_S
            while needed and not is_over():
                waiting_for = ", ".join(sorted({collection for collection, _ in needed}))
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LAST_POLL_S)
                reached = await journal.positions()
                # A rebuild may have retired a collection: nothing will be applied to that one.
                read = {collection for collection, _ in reads()}
                needed = {
                    at: order
                    for at, order in needed.items()
                    if at[0] in read and (at not in reached or reached[at] < (epoch, order))
                }
    except TimeoutError:
        raise NotSettled(
            f"{what} is stored, but {waiting_for} has not applied it within {timeout_s:g} s.",
            fix="Read again later, or see: polyplane projections list",
        ) from None
