"""LanceDB keeps the contract of vector stores, and survives what LanceDB alone does not."""

from __future__ import annotations

import asyncio
import fcntl
import signal
import struct
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest

from polyplane.errors import Misconfigured, StoreDown
from polyplane.model.collection import Collection
from polyplane.model.items import Vector
from polyplane.stores.protocol import VectorStore
from polyplane.stores.vector import lance, lance_indexes
from polyplane.testing.samples import ALL, NOTES, UNTYPED, note, notes, query
from polyplane.testing.vector import RawItem, VectorStoreContract

OWN = {"key", "position", "digest", "text", "vector"}


async def raw_table(folder: Path, collection: Collection = NOTES) -> pa.Table:
    """The whole table, read by LanceDB itself."""
    database = await lancedb.connect_async(str(folder))
    return await (await database.open_table(collection.target)).to_arrow()


class TestLance(VectorStoreContract):
    async def open(self, folder: Path) -> VectorStore:
        self.folder = folder
        return await lance.connect(f"lancedb://{folder}")

    async def raw_items(self, store: VectorStore, collection: Collection) -> list[RawItem]:
        rows = (await raw_table(self.folder, collection)).to_pylist()
        return [
            RawItem(
                row["key"],
                row["position"],
                row["digest"],
                row["text"],
                {name: value for name, value in row.items() if name not in OWN},
                row["vector"],
            )
            for row in rows
        ]

    async def raw_double(self, store: VectorStore, collection: Collection, key: str) -> None:
        held = (await raw_table(self.folder, collection)).to_pylist()
        database = await lancedb.connect_async(str(self.folder))
        table = await database.open_table(collection.target)
        await table.add([row for row in held if row["key"] == key])

    async def raw_words(
        self, store: VectorStore, collection: Collection, key: str, other: str
    ) -> None:
        held = {row["key"]: row for row in (await raw_table(self.folder, collection)).to_pylist()}
        database = await lancedb.connect_async(str(self.folder))
        table = await database.open_table(collection.target)
        await table.update({"_terms": held[other]["_terms"]}, where=f"`key` = '{key}'")


class TestLanceWithoutLock(TestLance):
    """As on an object store, where processes cannot exclude each other."""

    async def open(self, folder: Path) -> VectorStore:
        store = await super().open(folder)
        assert isinstance(store, lance.LanceStore)
        store._folder = None
        return store


@pytest.fixture
async def store(tmp_path: Path) -> VectorStore:
    store = await lance.connect(f"lancedb://{tmp_path}")
    await store.prepare(NOTES)
    return store


async def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url, folder in (
        (f"lancedb://{tmp_path}/absolute/deep", tmp_path / "absolute" / "deep"),
        ("lancedb://relative/deep", tmp_path / "relative" / "deep"),
    ):
        store = await lance.connect(url)
        await store.prepare(NOTES)
        assert (folder / "notes.lance").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(StoreDown):
        await lance.connect(f"lancedb://{tmp_path}/file")
    store = await lance.connect("lancedb://memory://", durable=False)
    await store.prepare(NOTES)
    await store.apply(NOTES, notes(3), [], 1)
    await store.barrier()
    assert len(await store.search(NOTES, ALL, query(0))) == 3
    assert not store.durable


@pytest.mark.parametrize("torn", [b"", b"\0" * 4096, b"rest of a manifest"], ids=["0", "4k", "x"])
async def test_torn_newest_manifests_are_dropped(
    store: VectorStore, tmp_path: Path, torn: bytes
) -> None:
    await store.prepare(UNTYPED)
    await store.apply(NOTES, notes(3), [], 1)
    await store.barrier()
    for position in (2, 3):
        await store.apply(NOTES, [note("lost", f"at {position}")], [], position)
    await store.close()
    versions = sorted((tmp_path / "notes.lance" / "_versions").iterdir())
    for newest in versions[:2]:
        newest.write_bytes(torn)
    again = await lance.connect(f"lancedb://{tmp_path}")
    await again.prepare(NOTES)
    assert (await raw_table(tmp_path))["key"].to_pylist() == ["n-000", "n-001", "n-002"]
    assert sorted((tmp_path / "notes.lance" / "_versions").iterdir()) == versions[2:]
    await again.apply(NOTES, [note("lost", "found")], [], 3)
    assert [hit.text for hit in await again.get(NOTES, ALL, ["lost"])] == ["found"]


def _only_in_memory(folder: Path) -> list[str]:
    """Files with content that has no place on the disk yet (FIEMAP: delayed allocation)."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size:
            extents = bytearray(struct.pack("=QQLLLL", 0, 2**64 - 1, 0, 0, 64, 0) + bytes(56 * 64))
            with path.open("rb") as file:
                fcntl.ioctl(file, 0xC020660B, extents)
            (count,) = struct.unpack_from("=L", extents, 20)
            flags = [struct.unpack_from("=L", extents, 72 + 56 * i)[0] for i in range(count)]
            if any(flag & 0x4 for flag in flags):
                found.append(path.name)
    return found


async def test_the_barrier_brings_files_to_the_disk(store: VectorStore, tmp_path: Path) -> None:
    try:
        for position in range(50):  # until the kernel has not written by itself meanwhile
            await store.apply(NOTES, notes(200), [], position)
            if _only_in_memory(tmp_path):
                break
        else:
            pytest.skip("this file system writes at once, or does not tell")
    except OSError as error:
        pytest.skip(f"this file system does not tell what is on the disk: {error}")
    await store.barrier()
    assert _only_in_memory(tmp_path) == []


async def test_a_table_whose_creation_was_torn_is_created_again(tmp_path: Path) -> None:
    versions = tmp_path / "notes.lance" / "_versions"
    versions.mkdir(parents=True)
    (versions / "18446744073709551614.manifest").touch()
    store = await lance.connect(f"lancedb://{tmp_path}")
    await store.prepare(NOTES)
    await store.apply(NOTES, notes(3), [], 1)
    assert len(await store.search(NOTES, ALL, query(0))) == 3


async def test_a_damaged_table_is_down(store: VectorStore, tmp_path: Path) -> None:
    await store.apply(NOTES, notes(3), [], 1)
    for file in (tmp_path / "notes.lance" / "data").iterdir():
        file.write_bytes(b"")
    again = await lance.connect(f"lancedb://{tmp_path}")
    with pytest.raises(StoreDown):
        await again.search(NOTES, ALL, query(0))


async def test_a_table_dropped_and_made_again_elsewhere_is_followed(
    store: VectorStore, tmp_path: Path
) -> None:
    for position in range(5):
        await store.apply(NOTES, notes(3), [], position)
    other = await lance.connect(f"lancedb://{tmp_path}")
    await other.forget(NOTES)
    await other.prepare(NOTES)
    await other.apply(NOTES, [note("a")], [], 1)
    await store.apply(NOTES, [note("b")], [], 1)
    assert [hit.key for hit in await store.get(NOTES, ALL, ["a", "b"])] == ["a", "b"]
    assert sorted((await raw_table(tmp_path))["key"].to_pylist()) == ["a", "b"]


async def test_own_columns_are_not_tags(store: VectorStore) -> None:
    await store.prepare(UNTYPED)
    for name in ("key", "position", "digest", "vector", "text"):
        wrong = Collection("wrong", 1, "vector", dimensions=8, tag_types={name: str})
        with pytest.raises(Misconfigured):
            await store.prepare(wrong)
        item = note("a")
        item.content = Vector("", {name: "x"}, query(0))
        with pytest.raises(Misconfigured):
            await store.apply(UNTYPED, [item], [], 1)


async def test_single_applies_do_not_pile_up(store: VectorStore, tmp_path: Path) -> None:
    await store.apply(NOTES, notes(2_000), [], 1)
    await store.maintain(NOTES, full=True)
    for position in range(2, 66):
        await store.apply(NOTES, [note(f"n-{position:03}", "new")], [], position)
        if position % 8 == 0:
            await store.maintain(NOTES)
    assert 1 < await _fragments(tmp_path) < 20
    await store.maintain(NOTES, full=True)
    assert await _fragments(tmp_path) == 1
    table = await (await lancedb.connect_async(str(tmp_path))).open_table("notes")
    stats = {i.columns[0]: await table.index_stats(i.name) for i in await table.list_indices()}
    assert set(stats) == {"key", *NOTES.indexes}
    assert [s for s in stats.values() if s is None or s.num_unindexed_rows] == []


async def _fragments(folder: Path) -> int:
    table = await (await lancedb.connect_async(str(folder))).open_table("notes")
    ids = (await table.query().with_row_id().to_arrow())["_rowid"].to_pylist()
    return len({row_id >> 32 for row_id in ids})


WRITER = """
import asyncio, sys
from polyplane.stores.vector import lance, lance_indexes
from polyplane.testing.samples import NOTES, note

async def main(folder, first):
    store = await lance.connect(f"lancedb://{folder}")
    await store.prepare(NOTES)
    for position in range(first, 40, 2):
        await store.apply(NOTES, [note(f"k{position // 4}", f"at {position}")], [], position)
        if position % 10 == 0:
            await store.maintain(NOTES, full=True)
    await store.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_processes_share_a_folder(store: VectorStore, tmp_path: Path) -> None:
    await store.maintain(NOTES, full=True)
    writers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, str(tmp_path), first)
        for first in ("0", "1")
    ]
    async with asyncio.timeout(100):
        assert [await writer.wait() for writer in writers] == [0, 0]
    rows = (await raw_table(tmp_path)).to_pylist()
    found = sorted((row["key"], row["position"], row["text"]) for row in rows)
    assert found == sorted((f"k{p // 4}", p, f"at {p}") for p in range(3, 40, 4))


HOLDER = """
import fcntl, sys
with open(sys.argv[1], "wb") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


async def test_who_stands_still_with_the_lock_leaves_nothing_waiting(tmp_path: Path) -> None:
    """As a process that is stopped in a merge: applies fail in time, reads go on, and what was
    given up is not done when it wakes.
    """
    store = await lance.connect(f"lancedb://{tmp_path}", timeout_s=0.3)
    await store.prepare(NOTES)
    await store.apply(NOTES, notes(3), [], 1)
    lock = str(tmp_path / f"{NOTES.target}.lock")
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, lock, stdin=PIPE, stdout=PIPE
    )
    assert holder.stdout and await holder.stdout.readline() == b"held\n"
    holder.send_signal(signal.SIGSTOP)
    try:
        tasks = len(asyncio.all_tasks())
        for position in (2, 3):
            with pytest.raises(StoreDown):
                await store.apply(NOTES, [note("n-000", "given up")], ["n-001"], position)
            with pytest.raises(StoreDown):
                await store.bury(NOTES, ["n-002"], position)
        assert len(asyncio.all_tasks()) == tasks
        assert len(await store.search(NOTES, ALL, query(0), limit=10)) == 3
        [stamps] = [stamps async for stamps in store.scan(NOTES)]
        assert len(stamps) == 3
        await store.barrier()
    finally:
        holder.kill()
        await holder.wait()
    await store.apply(NOTES, [note("n-001", "later")], [], 4)
    hits = await store.get(NOTES, ALL, ["n-000", "n-001", "n-002"])
    assert [hit.text for hit in hits] == ["text of n-000", "later", "text of n-002"]
    await store.close()


async def test_vectors_are_indexed_when_it_pays_and_trained_anew_when_they_are_many_more(
    store: VectorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found stays the same; writers go on meanwhile."""
    monkeypatch.setattr(lance_indexes, "NUMBERS_MIN", 300 * NOTES.dimensions)
    monkeypatch.setattr(lance_indexes, "PARTITION_ROWS", 100)
    for rows, trained in ((290, None), (400, "near_4"), (1_500, "near_4"), (1_700, "near_17")):
        await store.apply(NOTES, notes(rows), ["gone"], rows)
        await asyncio.gather(
            store.maintain(NOTES, full=True),
            *(store.apply(NOTES, [note(f"late {rows}", "late")], [], p) for p in range(1, 5)),
        )
        assert (await _indexes(tmp_path)).get("vector") == trained
        await store.apply(NOTES, [note(f"fresh {rows}", "fresh")], [f"late {rows}"], 10**6)
        for seed in range(3):
            hits = await store.search(NOTES, ALL, query(seed), limit=30)
            exact = await store.search(NOTES, ALL, query(seed), limit=30, exact=True)
            assert [hit.key for hit in hits] == [hit.key for hit in exact]
            assert [h.score for h in hits] == pytest.approx([h.score for h in exact], abs=1e-5)
            some = await store.search(NOTES, ALL, query(seed), where={"owner": "ada"})
            assert {hit.tags["owner"] for hit in some} == {"ada"}
        found = await store.search(NOTES, ALL, query(0), limit=5_000)
        assert len(found) == len(await store.search(NOTES, ALL, query(0), limit=5_000, exact=True))
        assert {f"fresh {rows}"} <= {hit.key for hit in found}
        assert {"gone", f"late {rows}"}.isdisjoint(hit.key for hit in found)


async def _indexes(folder: Path) -> dict[str, str]:
    table = await (await lancedb.connect_async(str(folder))).open_table("notes")
    return {index.columns[0]: index.name for index in await table.list_indices()}
