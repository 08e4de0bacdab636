"""How audit is verified: seals and rows are read once, page by page, in the order of numbers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

from polyplane.model.audit import AuditRow
from polyplane.reconcile.trail import Audited, Chain, Outside, check_rows, check_unsealed
from polyplane.security.sealing import Seal, Span

SEALS_AT_ONCE: Final = 200

Lines = AsyncIterator[list[bytes]]
Tell = Callable[[int], None]
"""Called with the number of rows compared so far."""


class Trail(Protocol):
    """Rows and seals, each in the order of their numbers, page by page; see `truth.audit`."""

    async def cluster(self) -> str:
        """Which database this is."""
        ...

    def seals(self, after: int = ..., upto: int = ...) -> AsyncIterator[list[str]]:
        """The lines of the seals with these numbers."""
        ...

    def rows(self, first: int, last: int) -> AsyncIterator[list[AuditRow]]:
        """Rows by number."""
        ...

    def beside(self, covered: Sequence[Span]) -> AsyncIterator[list[AuditRow]]:
        """Rows whose numbers are not among these."""
        ...


async def prove_trail(
    trail: Trail,
    keys: Collection[str],
    outside: Mapping[str, Callable[[], Lines]],
    *,
    tell: Tell | None = None,
) -> Audited:
    """Compare rows, seals and places outside; `keys` are the public keys that may sign.

    What is written meanwhile waits for its seal. The seals are taken first, so that a row that is
    sealed meanwhile is looked at as one that waits.
    """
    done = Audited()
    cluster = await trail.cluster()
    chain = Chain(keys, done)
    async for lines in trail.seals():
        for start in range(0, len(lines), SEALS_AT_ONCE):
            found = await asyncio.to_thread(_chained, chain, lines[start : start + SEALS_AT_ONCE])
            await _rows_under(trail, found, done, tell)
    await _beside(trail, chain, cluster, done)
    for name, lines_of in outside.items():
        await _compare(trail, name, keys, lines_of(), done)
    return done


async def prove_lines(lines: Lines, keys: Collection[str]) -> Audited:
    """Whether seals alone, as they were exported, are one unbroken chain of these keys'."""
    done = Audited()
    chain = Chain(keys, done)
    async for page in lines:
        await asyncio.to_thread(_chained, chain, page)
    done.outside = done.head
    return done


def _chained(chain: Chain, lines: list[str] | list[bytes]) -> list[Seal]:
    found = (chain.add(line) for line in lines)
    return [seal for seal in found if seal is not None]


async def _rows_under(trail: Trail, seals: list[Seal], done: Audited, tell: Tell | None) -> None:
    """Read the rows of some seals, and check each seal with its own."""
    spans = sorted((first, last, n) for n, it in enumerate(seals) for first, last in it.seqs)
    under: list[list[AuditRow]] = [[] for _ in seals]
    at = 0
    if spans:
        async for page in trail.rows(spans[0][0], max(last for _, last, _ in spans)):
            for row in page:
                while at < len(spans) and spans[at][1] < row.seq:
                    at += 1
                if at < len(spans) and spans[at][0] <= row.seq:
                    under[spans[at][2]].append(row)
    for seal, rows in zip(seals, under, strict=True):
        await asyncio.to_thread(check_rows, seal, rows, done)
    if tell is not None:
        tell(done.rows)


async def _beside(trail: Trail, chain: Chain, cluster: str, done: Audited) -> None:
    """The rows between and behind what is sealed."""
    async for page in trail.beside(chain.covered):
        for row in page:
            check_unsealed(row, chain.head, cluster, done)


async def _compare(
    trail: Trail, name: str, keys: Collection[str], lines: Lines, done: Audited
) -> None:
    """What a place outside has, page by page, with the same seals of ours."""
    place = Outside(name, keys, done)
    async for page in lines:
        ours: dict[int, Seal] = {}
        numbers = [it for it in map(_number, page) if it]
        if numbers:
            async for mine in trail.seals(min(numbers) - 1, max(numbers)):
                for line in mine:
                    try:
                        seal = Seal.parse(line)
                    except ValueError:
                        continue  # it was found already
                    ours[seal.number] = seal
        await asyncio.to_thread(place.compare, page, ours)
    done.outside = max(done.outside or 0, place.last)


def _number(line: bytes) -> int:
    try:
        return Seal.parse(line).number
    except ValueError:
        return 0
