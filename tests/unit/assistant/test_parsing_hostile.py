"""A part of the hostile files; `python -m tests.hostile` reads a thousand."""

from __future__ import annotations

from itertools import islice

from polyplane.domains.assistant.parsing.parsed import Unreadable
from polyplane.domains.assistant.parsing.pool import Parsers
from tests.hostile.__main__ import is_whole
from tests.hostile.bombs import ANY, light
from tests.hostile.mutants import mutants

SMALL_BYTES = 60_000
"""Larger ones take longer, and are of the long run."""


async def test_hostile_files_are_named_with_their_reason_and_stop_nothing() -> None:
    small = [it for it in light() if len(it.content) <= SMALL_BYTES]
    files = [*small, *islice(mutants(1), 25)]
    assert len(files) > 60
    async with Parsers() as parsers:
        results = await parsers.read([it[:3] for it in files])
    wrong = []
    for hostile, result in zip(files, results, strict=True):
        if isinstance(result, Unreadable):
            is_right = hostile.right == ANY or result.code in hostile.right
            is_right = is_right and len(result.reason) > 5
        else:
            is_right = is_whole(result) and (hostile.right == ANY or "read" in hostile.right)
        if not is_right:
            wrong.append((hostile.name, result))
    assert wrong == []


def test_hostile_files_are_the_same_each_time() -> None:
    one, other = ([it.content for it in islice(mutants(3), 30)] for _ in range(2))
    assert one == other
