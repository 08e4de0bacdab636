"""A graph whose files somebody has altered is recognised, and never an answer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from polyplane.errors import StoreDown
from polyplane.stores.graph import ladybug_graph
from polyplane.stores.graph.ladybug_graph import LadybugStore
from polyplane.testing.graph_samples import KNOWS, PEOPLE, VIEW, edge, node
from polyplane.testing.samples import ALL

MANY = 4_500
"""Enough to be loaded in bulk."""
FILE = "graph.lbug"


async def opened(folder: Path) -> LadybugStore:
    return await ladybug_graph.connect(f"ladybug://{folder}")


async def filled(folder: Path) -> LadybugStore:
    """A graph of which some is in the database, and some in its log."""
    store = await opened(folder)
    assert await store.inspect() == []
    for collection in (PEOPLE, KNOWS):
        await store.prepare(collection)
    await store.apply(PEOPLE, [node(f"p{i}", stars=i) for i in range(MANY)], [], 1)
    await store.apply(KNOWS, [edge(f"k{i}", f"p{i}", "p0", since=i) for i in range(MANY)], [], 1)
    await store.barrier()
    await store.apply(KNOWS, [edge(f"k{i}", f"p{i}", "p1", since=-i) for i in range(50)], [], 2)
    await store.barrier()
    return store


async def is_whole(store: LadybugStore) -> bool:
    """Whether it holds what `filled` has put there."""
    known = await store.neighbours(VIEW, ALL, "KNOWS", "p7")
    held = [stamp async for some in store.scan(PEOPLE) for stamp in some]
    return [it.node.key for it in known] == ["p1"] and len(held) == MANY


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


HARMS: list[Callable[[Path], None]] = [flipped, cut, zeroed, Path.unlink]


async def begun_anew(store: LadybugStore) -> None:
    """It answers nothing, until it was looked at; then it is empty, and works."""
    with pytest.raises(StoreDown, match="damaged"):
        await store.neighbours(VIEW, ALL, "KNOWS", "p7")
    with pytest.raises(StoreDown, match="damaged"):
        await store.prepare(PEOPLE)
    [said] = await store.inspect()
    assert "filled again" in said
    assert await store.inspect() == []
    for collection in (PEOPLE, KNOWS):
        await store.prepare(collection)
        assert [some async for some in store.scan(collection)] == []
    await store.apply(KNOWS, [edge("k", "p7", "p1")], [], 1)
    assert await store.neighbours(VIEW, ALL, "KNOWS", "p7") == []


@pytest.mark.parametrize("harm", HARMS)
async def test_what_was_closed_in_order_is_known_again(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    await (await filled(tmp_path / "graph")).close()
    harm(tmp_path / "graph" / FILE)
    for _ in range(2):  # who may not take it away leaves it as it is
        await (await opened(tmp_path / "graph")).close()
    store = await opened(tmp_path / "graph")
    await begun_anew(store)
    await store.close()
    store = await opened(tmp_path / "graph")
    assert await store.inspect() == []
    assert len(await store.stamps(KNOWS, ["k", "k7"])) == 1
    await store.close()


@pytest.mark.parametrize("name", [FILE, f"{FILE}.wal"])
@pytest.mark.parametrize("harm", [cut, zeroed])
async def test_after_another_end_the_engine_says_what_it_cannot_read(
    harm: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    store = await filled(tmp_path / "graph")
    shutil.copytree(tmp_path / "graph", tmp_path / "copy")
    await store.close()
    harm(tmp_path / "copy" / name)
    store = await opened(tmp_path / "copy")
    await begun_anew(store)
    await store.close()


async def test_what_is_whole_is_left_alone(tmp_path: Path) -> None:
    """Closed in order, or not."""
    store = await filled(tmp_path / "graph")
    shutil.copytree(tmp_path / "graph", tmp_path / "copy")
    await store.close()
    for folder in ("graph", "copy", "graph", "copy"):
        store = await opened(tmp_path / folder)
        assert await store.inspect() == []
        assert await is_whole(store)
        await store.close()
