"""The vector contract notices an adapter that is broken on purpose, in the way it is broken."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from lancedb.query import AsyncFTSQuery, AsyncStandardQuery, AsyncVectorQuery
from qdrant_client import AsyncQdrantClient, models

from polyplane.model.items import Hit
from polyplane.stores.vector import (
    lance,
    lance_indexes,
    lance_table,
    lance_upkeep,
    qdrant_points,
    qdrant_terms,
)
from polyplane.stores.vector.lance import LanceStore
from polyplane.stores.vector.qdrant import QdrantStore
from polyplane.testing.samples import NOTES
from polyplane.testing.vector import VectorStoreContract
from tests.contract.sampling import sampled
from tests.contract.test_vector_lance import (
    TestLance,
    test_the_barrier_brings_files_to_the_disk as barrier_is_kept,
)
from tests.contract.test_vector_qdrant import TestQdrantInMemory
from tests.contract.vector_mutants import ANY_STORE, NOTICED, Breakage, Mutants, Patch, run

# Broken inside of the LanceDB adapter


def _gate(where: str) -> Breakage:
    """The condition under which a merge replaces a row."""

    def break_it(patch: Patch) -> None:
        original = lance_upkeep.merge

        async def broken(table: Any, rows: Any, _where: str, **kwargs: Any) -> None:
            await original(table, rows, where, **kwargs)

        patch.setattr(lance, "merge", broken)

    return break_it


def _deleted_for_good(patch: Patch) -> None:
    original = LanceStore.apply

    async def broken(self: LanceStore, collection: Any, puts: Any, drops: Any, p: int) -> None:
        await original(self, collection, puts, [], p)
        table = await self._table(collection)
        if drops:
            await table.delete(lance_table.among("key", drops))

    patch.setattr(LanceStore, "apply", broken)


def _tombstones_shown(patch: Patch) -> None:
    original = lance_table.hits

    def broken(collection: Any, found: Any) -> list[Hit]:
        digests = pa.array(["any"] * found.num_rows)
        at = found.column_names.index("digest")
        return original(collection, found.set_column(at, "digest", digests))

    patch.setattr(lance_table, "hits", broken)


def _filtered_after_the_limit(patch: Patch) -> None:
    original = AsyncVectorQuery.limit

    def broken(self: Any, limit: int) -> Any:
        return original(self.postfilter(), limit)

    patch.setattr(AsyncVectorQuery, "limit", broken)


def _quotes_not_doubled(patch: Patch) -> None:
    original = lance_table.literal
    patch.setattr(lance_table, "literal", lambda v: f"'{v}'" if isinstance(v, str) else original(v))


def _euclidean(patch: Patch) -> None:
    original = AsyncVectorQuery.distance_type
    patch.setattr(AsyncVectorQuery, "distance_type", lambda self, _: original(self, "l2"))


def _unsorted_scan(patch: Patch) -> None:
    patch.setattr(AsyncStandardQuery, "order_by", lambda self, _: self)


def _upkeep_buries_tombstones(patch: Patch) -> None:
    original = lance_upkeep.Upkeep.run

    async def broken(self: Any, table: Any, indexes: Any, *, full: bool) -> None:
        await original(self, table, indexes, full=full)
        await table.delete("digest IS NULL")

    patch.setattr(lance_upkeep.Upkeep, "run", broken)


def _folded_again_and_again(patch: Patch) -> None:
    """Folding inserts, as an append would."""
    original = lance_upkeep.merge

    async def broken(table: Any, rows: Any, where: str, **kwargs: Any) -> None:
        if where == "target.position = source.position":
            await table.add(rows)
        else:
            await original(table, rows, where, **kwargs)

    patch.setattr(lance_upkeep, "merge", broken)


def _nobody_excluded(patch: Patch) -> None:
    @asynccontextmanager
    async def alone(_lock: Any) -> Any:
        yield

    patch.setattr(lance_upkeep, "alone", alone)


def _zone_lost(patch: Patch) -> None:
    original = lance_table.hits

    def broken(collection: Any, found: Any) -> list[Hit]:
        made = original(collection, found)
        return [hit._replace(tags={**hit.tags, "seen": _naive(hit.tags["seen"])}) for hit in made]

    def _naive(seen: Any) -> Any:
        return seen and seen.replace(tzinfo=None)

    patch.setattr(lance_table, "hits", broken)


def _only_what_is_indexed(patch: Patch) -> None:
    original = lance_indexes.matching
    patch.setattr(lance_indexes, "matching", lambda *args: original(*args).fast_search())


def _words_after_the_limit(patch: Patch) -> None:
    original = AsyncFTSQuery.limit

    def broken(self: Any, limit: int) -> Any:
        return original(self.postfilter(), limit)

    patch.setattr(AsyncFTSQuery, "limit", broken)


LANCE: Mutants = {
    "only what is indexed": (
        _only_what_is_indexed,
        "test_match_finds_exactly_what_has_a_word",
    ),
    "limit first, by words": (
        _words_after_the_limit,
        "test_match_filters_before_the_limit",
    ),
    "no gate": (_gate("true"), "test_the_newer_position_wins"),
    "equal passes": (
        _gate("target.position <= source.position"),
        "test_applying_again_changes_nothing",
    ),
    "first come": (_gate("false"), "test_the_newer_position_wins"),
    "no tombstone": (_deleted_for_good, "test_the_dead_rise_only_by_a_newer_put"),
    "tombstones shown": (_tombstones_shown, "test_tombstones_are_hidden"),
    "limit first": (_filtered_after_the_limit, "test_filters_apply_before_the_limit"),
    "quotes get out": (_quotes_not_doubled, "test_hostile_strings_are_only_strings"),
    "euclidean": (_euclidean, "test_search_ranks_by_cosine"),
    "scan as stored": (_unsorted_scan, "test_scan_is_whole_and_in_the_order_of_code_points"),
    "upkeep buries": (_upkeep_buries_tombstones, "test_maintain_changes_nothing_to_be_seen"),
    "upkeep repeats": (_folded_again_and_again, "test_maintain_changes_nothing_to_be_seen"),
    "nobody excluded": (
        _nobody_excluded,
        "test_a_new_key_put_by_several_at_once_is_stored_once",
    ),
    "zone lost": (_zone_lost, "test_search_ranks_by_cosine"),
}


# Broken inside of the Qdrant adapter


def _points(change: Callable[[models.PointStruct], models.PointStruct]) -> Breakage:
    """The points that are upserted, changed."""

    def break_it(patch: Patch) -> None:
        original = qdrant_points.points
        patch.setattr(qdrant_points, "points", lambda *args: [change(p) for p in original(*args)])

    return break_it


def _position(**bounds: float) -> Breakage:
    """The gate, by other bounds (relative to the position)."""

    def break_it(patch: Patch) -> None:
        def broken(position: int) -> models.Filter:
            within = models.Range(**{name: position + by for name, by in bounds.items()})
            key = qdrant_points.POSITION
            return models.Filter(must=[models.FieldCondition(key=key, range=within)])

        patch.setattr(qdrant_points, "older_than", broken)

    return break_it


def _deleted_points(patch: Patch) -> None:
    original = QdrantStore.apply

    async def broken(self: QdrantStore, collection: Any, puts: Any, drops: Any, p: int) -> None:
        await original(self, collection, puts, [], p)
        gone: list[Any] = [qdrant_points.point_id(collection, key) for key in drops]
        await self._client.delete(collection.target, models.PointIdsList(points=gone))

    patch.setattr(QdrantStore, "apply", broken)


def _with_vector(point: models.PointStruct) -> models.PointStruct:
    return point.model_copy(update={"vector": point.vector or [1.0] * NOTES.dimensions})


def _with_content(point: models.PointStruct) -> models.PointStruct:
    payload = {"text": "", "owner": "ada", **(point.payload or {})}
    return point.model_copy(update={"payload": payload})


def _without_digest_check(patch: Patch) -> None:
    original = qdrant_points.hits

    def broken(collection: Any, points: Any) -> list[Hit]:
        living = {"_digest": "any", "text": ""}
        given = [p.model_copy(update={"payload": living | (p.payload or {})}) for p in points]
        return original(collection, given)

    patch.setattr(qdrant_points, "hits", broken)


def _upper_case_uuids_alike(patch: Patch) -> None:
    original = qdrant_points.point_id
    patch.setattr(qdrant_points, "point_id", lambda c, key: original(c, key.lower()))


def _one_page(patch: Patch) -> None:
    original = AsyncQdrantClient.scroll

    async def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (await original(self, *args, **{**kwargs, "limit": 1_000}))[0], None

    patch.setattr(QdrantStore, "scan", _scan_with(broken))


def _scan_with(scroll: Any) -> Any:
    original = QdrantStore.scan

    async def scan(self: QdrantStore, *args: Any, **kwargs: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AsyncQdrantClient, "scroll", scroll)
            async for stamps in original(self, *args, **kwargs):
                yield stamps

    return scan


def _numbers_by_form(patch: Patch) -> None:
    original = qdrant_points._equal

    def broken(name: str, value: Any, kind: Any) -> Any:
        return original(name, int(value) if isinstance(value, float) else value, int)

    patch.setattr(qdrant_points, "_equal", broken)


def _rarity_forgotten(patch: Patch) -> None:
    patch.setattr(qdrant_terms, "PARAMS", models.SparseVectorParams())


def _times_forgotten(patch: Patch) -> None:
    original = qdrant_terms.weighed

    def broken(text: str, language: str) -> models.SparseVector:
        made = original(text, language)
        return models.SparseVector(indices=made.indices, values=[1.0] * len(made.indices))

    patch.setattr(qdrant_terms, "weighed", broken)


QDRANT: Mutants = {
    "rarity forgotten": (
        _rarity_forgotten,
        "test_match_prefers_rare_words_and_those_said_often",
    ),
    "times forgotten": (
        _times_forgotten,
        "test_match_prefers_rare_words_and_those_said_often",
    ),
    "no gate": (_position(gte=-1e18), "test_the_newer_position_wins"),
    "equal passes": (_position(lte=0), "test_applying_again_changes_nothing"),
    "first come": (_position(lt=-1e18), "test_the_newer_position_wins"),
    "no tombstone": (_deleted_points, "test_the_dead_rise_only_by_a_newer_put"),
    "tombstones found": (_points(_with_vector), "test_a_drop_leaves_a_tombstone_without_content"),
    "tombstones with content": (
        _points(_with_content),
        "test_a_drop_leaves_a_tombstone_without_content",
    ),
    "tombstones got": (_without_digest_check, "test_tombstones_are_hidden"),
    "keys folded": (
        _upper_case_uuids_alike,
        "test_scan_is_whole_and_in_the_order_of_code_points",
    ),
    "one page": (_one_page, "test_large_batches"),
    "numbers by form": (_numbers_by_form, "test_search_filters"),
}


CASES = [
    *((TestLance, name, *mutant) for name, mutant in (ANY_STORE | LANCE).items()),
    *((TestQdrantInMemory, name, *mutant) for name, mutant in (ANY_STORE | QDRANT).items()),
]


@pytest.mark.parametrize(
    ("contract", "mutant", "break_it", "test"),
    sampled(CASES, [f"{contract.__name__}-{mutant}" for contract, mutant, _, _ in CASES]),
)
async def test_the_contract_notices(
    contract: type[VectorStoreContract],
    mutant: str,
    break_it: Breakage,
    test: str,
    tmp_path: Path,
    monkeypatch: Patch,
) -> None:
    with monkeypatch.context() as patch:
        break_it(patch)
        with pytest.raises(NOTICED):
            await run(contract(), test, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("contract", [TestLance, TestQdrantInMemory])
@pytest.mark.parametrize("test", sorted({test for _, _, _, test in CASES}))
async def test_the_adapters_pass_the_same_tests(
    contract: type[VectorStoreContract], test: str, tmp_path: Path
) -> None:
    await run(contract(), test, tmp_path)


async def test_a_missing_barrier_is_noticed(tmp_path: Path, monkeypatch: Patch) -> None:
    store = await lance.connect(f"lancedb://{tmp_path}", durable=False)
    await store.prepare(NOTES)
    with pytest.raises(AssertionError):
        await barrier_is_kept(store, tmp_path)
