"""A graph that was damaged or deleted is filled again, also one that nothing has changed since."""

from __future__ import annotations

from shutil import rmtree

import pytest

import polyplane as pp
from polyplane import Settings
from tests.conftest import PlaneOf
from tests.flow.things import by_hand
from tests.flow.towns import DECLARED, FILL, Roads


async def notes(plane: pp.Plane) -> str:
    """What health says of the engine of the graph."""
    [found] = [it for it in (await plane.health()).engines if it.role == "graph"]
    return found.detail


@pytest.mark.parametrize("harm", ["flipped", "gone"])
async def test_it_is_filled_again(plane_of: PlaneOf, own_settings: Settings, harm: str) -> None:
    plane = await plane_of(models=DECLARED["models"], flows=False)
    for statement in FILL:
        await by_hand(plane, statement)
    await plane.close()
    plane = await plane_of(**DECLARED)  # all of it is there before anything moves: a backfill's
    await plane.caught_up()
    assert await notes(plane) == ""
    await plane.close()
    folder = own_settings.home / "graph"
    if harm == "gone":
        rmtree(folder)
    else:
        content = bytearray((folder / "graph.lbug").read_bytes())
        content[len(content) // 2] ^= 4
        (folder / "graph.lbug").write_bytes(bytes(content))
    plane = await plane_of(**DECLARED)
    assert "filled again" in await notes(plane)
    await plane.caught_up()
    assert [it.node.key for it in await plane.graph.neighbours(Roads, 7)] == ["8"]
    assert (await plane.verify(deep=True)).clean
