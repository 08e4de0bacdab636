"""The series contract notices an adapter that is broken on purpose, in the way it is broken."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from _pytest.outcomes import Failed

from polyplane.errors import PolyplaneError, Refused
from polyplane.model.scope import Scope
from polyplane.model.stream import Stream
from polyplane.stores.protocol import SeriesStore
from polyplane.stores.series import clickhouse, clickhouse_ddl as ddl, clickhouse_queries as queries
from polyplane.stores.series.clickhouse import ClickHouseSeries
from polyplane.stores.series.clickhouse_lane import Lane
from polyplane.testing.readings import Reading
from tests.contract.sampling import sampled
from tests.contract.test_series_chdb import TestChdb as Contract

Patch = pytest.MonkeyPatch
Breakage = Callable[[Patch], None]


def _rewritten(module: Any, name: str, pattern: str, replacement: str) -> Breakage:
    """The SQL that `module.name` makes, with every `pattern` replaced."""

    def break_it(patch: Patch) -> None:
        original = getattr(module, name)

        def broken(*args: Any, **kwargs: Any) -> Any:
            made = original(*args, **kwargs)
            if isinstance(made, str):
                return re.sub(pattern, replacement, made)
            return made._replace(sql=re.sub(pattern, replacement, made.sql))

        patch.setattr(module, name, broken)

    return break_it


def _stored_otherwise(change: Callable[[pa.Table], pa.Table]) -> Breakage:
    """The points that reach the engine, changed on the way."""

    def break_it(patch: Patch) -> None:
        original = ClickHouseSeries._insert

        def broken(self: Any, stream: Any, points: pa.Table, token: str, client: Any) -> None:
            original(self, stream, change(points), token, client)

        patch.setattr(ClickHouseSeries, "_insert", broken)

    return break_it


def _column(points: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    index = points.schema.get_field_index(name)
    return points.set_column(index, points.schema.field(index), values)


def _seconds_only(points: pa.Table) -> pa.Table:
    seconds = pc.floor_temporal(points["time"], unit="second")
    return _column(points, "time", seconds.cast(points.schema.field("time").type))


def _single_precision(points: pa.Table) -> pa.Table:
    return _column(points, "value", points["value"].cast(pa.float32(), safe=False).cast("double"))


def _no_nulls(points: pa.Table) -> pa.Table:
    return _column(points, "level", pc.fill_null(points["level"], 0))


def _empty_is_null(points: pa.Table) -> pa.Table:
    notes = points["note"]
    return _column(points, "note", pc.if_else(pc.equal(notes, ""), None, notes))


def _plain_json(points: pa.Table) -> pa.Table:
    texts = [t and json.dumps(json.loads(t)) for t in points["extra"].to_pylist()]
    return _column(points, "extra", pa.chunked_array([texts], pa.string()))


def _token_ignored(patch: Patch) -> None:
    original = ClickHouseSeries._insert

    def broken(self: Any, stream: Any, points: pa.Table, token: str, client: Any) -> None:
        original(self, stream, points, str(uuid4()), client)

    patch.setattr(ClickHouseSeries, "_insert", broken)


def _token_trusted(patch: Patch) -> None:
    patch.setattr(ClickHouseSeries, "_append", ClickHouseSeries._insert)


def _one_token_for_all(patch: Patch) -> None:
    original = ClickHouseSeries._append

    def broken(self: Any, stream: Any, points: pa.Table, token: str, client: Any) -> None:
        original(self, stream, points, "token", client)

    patch.setattr(ClickHouseSeries, "_append", broken)
    patch.setattr(ClickHouseSeries, "_stored", lambda *_: 1 << 60)


def _final_by_setting_dropped(patch: Patch) -> None:
    patch.setitem(clickhouse._GUEST_SETTINGS, "final", 0)


def _guests_may_write(patch: Patch) -> None:
    patch.setitem(clickhouse._GUEST_SETTINGS, "readonly", 0)
    patch.setattr(queries, "check_reading", lambda *_: None)


def _files_in_reach(patch: Patch) -> None:
    patch.setattr(queries, "_FORBIDDEN", re.compile(r"INTO OUTFILE|python|eval"))


def _answers_not_bounded(patch: Patch) -> None:
    patch.setitem(clickhouse._READ_SETTINGS, "max_result_rows", 0)


def _rests_of_failed_queries_kept(patch: Patch) -> None:
    patch.setattr(Lane, "_call", lambda self, call: call(self._client))


def _filters_ignored(patch: Patch) -> None:
    patch.setattr(queries, "filters", lambda *_: ([], {}))


def _ranges_ignored(patch: Patch) -> None:
    patch.setattr(queries, "_OPERATORS", {})


def _values_pasted(patch: Patch) -> None:
    original = queries.filters

    def broken(stream: type[Stream], where: Any) -> Any:
        conditions, parameters = original(stream, where)
        for name, value in parameters.items():
            conditions = [c.replace(f"{{{name}:String}}", f"'{value}'") for c in conditions]
        return conditions, parameters

    patch.setattr(queries, "filters", broken)


def _changes_not_checked(patch: Patch) -> None:
    patch.setattr(ddl, "changes", lambda *_: [])


def _misfits_dropped_in_silence(patch: Patch) -> None:
    original = clickhouse._checked

    def broken(stream: type[Stream], points: pa.Table) -> pa.Table:
        try:
            return original(stream, points)
        except Refused:
            return points.slice(0, 0)

    patch.setattr(clickhouse, "_checked", broken)


def _scope_forgotten(patch: Patch) -> None:
    patch.setattr(queries, "narrowed", lambda _stream, _scope, where: where)


def _tenants_not_told(patch: Patch) -> None:
    original = ClickHouseSeries.count

    async def broken(self: Any, *args: Any) -> Any:
        return (await original(self, *args))._replace(tenants=("acme",))

    patch.setattr(ClickHouseSeries, "count", broken)


def _free_for_all(patch: Patch) -> None:
    patch.setattr(Scope, "is_everything", True)


MUTANTS: dict[str, tuple[Breakage, str]] = {
    "scope forgotten": (_scope_forgotten, "test_a_scope_is_shown_its_points"),
    "scope forgotten, hostile": (_scope_forgotten, "test_hostile_tenants_are_only_names"),
    "tenants not told": (_tenants_not_told, "test_everything_is_told_whose_it_is"),
    "one tenant of a bucket told": (
        _rewritten(queries, "window", r"max\(tenant__\)", "min(tenant__)"),
        "test_everything_is_told_whose_it_is",
    ),
    "a free query for callers": (_free_for_all, "test_a_free_query_is_not_for_callers"),
    "token ignored": (_token_ignored, "test_a_token_inserts_once[dense]"),
    "token trusted": (_token_trusted, "test_a_known_token_does_not_hide_a_loss"),
    "one token for all": (_one_token_for_all, "test_a_token_inserts_once[dense]"),
    "tokens forgotten": (
        _rewritten(
            ddl,
            "create_table",
            r"non_replicated_deduplication_window = \d+",
            "ttl_only_drop_parts = 0",
        ),
        "test_a_token_inserts_once_for_ever",
    ),
    "identity not in the order": (
        _rewritten(ddl, "create_table", r"(ORDER BY .*), event_id\)", r"\1)"),
        "test_equal_values_of_different_batches_are_different_points",
    ),
    "time in milliseconds": (
        _rewritten(ddl, "create_table", r"`time` DateTime64\(6", "`time` DateTime64(3"),
        "test_points_are_stored_whole[dense]",
    ),
    "time in seconds": (_stored_otherwise(_seconds_only), "test_points_are_stored_whole[dense]"),
    "single precision": (
        _stored_otherwise(_single_precision),
        "test_points_are_stored_whole[dense]",
    ),
    "nulls lost": (_stored_otherwise(_no_nulls), "test_points_are_stored_whole[dense]"),
    "empty texts lost": (_stored_otherwise(_empty_is_null), "test_points_are_stored_whole[dense]"),
    "JSON rewritten": (_stored_otherwise(_plain_json), "test_points_are_stored_whole[dense]"),
    "last point lost": (_stored_otherwise(lambda p: p.slice(0, len(p) - 1)), "test_filters"),
    "count without FINAL": (_rewritten(queries, "count", "FINAL", ""), "test_copies_count_once"),
    "window without FINAL": (_rewritten(queries, "window", "FINAL", ""), "test_copies_count_once"),
    "query without FINAL": (_final_by_setting_dropped, "test_copies_count_once"),
    "filters ignored": (_filters_ignored, "test_filters"),
    "ranges ignored": (_ranges_ignored, "test_filters"),
    "any of two conditions": (_rewritten(queries, "count", " AND ", " OR "), "test_filters"),
    "null not found": (_rewritten(queries, "count", "IS NULL", "= NULL"), "test_filters"),
    "values pasted": (_values_pasted, "test_hostile_strings_are_only_strings"),
    "end included": (
        _rewritten(queries, "window", "time < ", "time <= "),
        "test_windows_hold_their_start_and_not_their_end",
    ),
    "start excluded": (
        _rewritten(queries, "window", "time >= ", "time > "),
        "test_windows_hold_their_start_and_not_their_end",
    ),
    "end ignored": (
        _rewritten(queries, "window", r"time < \S+ 'UTC'\)", "1"),
        "test_windows_hold_their_start_and_not_their_end",
    ),
    "buckets at points": (_rewritten(queries, "window", "intDiv", "divide"), "test_windows"),
    "null is a value": (
        _rewritten(queries, "window", " WHERE `level` IS NOT NULL", ""),
        "test_windows",
    ),
    "buckets in no order": (
        _rewritten(queries, "window", "ORDER BY bucket", "ORDER BY bucket DESC"),
        "test_windows",
    ),
    "limit ignored": (
        _rewritten(queries, "window", "LIMIT.*", ""),
        "test_windows_hold_their_start_and_not_their_end",
    ),
    "oldest is latest": (_rewritten(queries, "latest", r"max\(time\)", "min(time)"), "test_latest"),
    "any of the latest": (_rewritten(queries, "latest", "argMax", "argMin"), "test_latest"),
    "copies digested": (
        _rewritten(queries, "partition", " FINAL", ""),
        "test_a_partition_is_its_points_whatever_their_order_and_copies",
    ),
    "copies not counted": (
        _rewritten(queries, "partition", r"FROM (\S+) WHERE", r"FROM \1 FINAL WHERE"),
        "test_a_partition_is_its_points_whatever_their_order_and_copies",
    ),
    "a column not digested": (
        _rewritten(queries, "partition", "`level`, ", ""),
        "test_partitions_tell_any_two_values_apart",
    ),
    "copies are doubles": (
        _rewritten(queries, "batches", " FINAL", ""),
        "test_batches_are_counted_by_their_identities",
    ),
    "span ignored": (
        _rewritten(queries, "batches", r" AND time BETWEEN.*?'UTC'\) AND .*?'UTC'\)", ""),
        "test_batches_are_counted_by_their_identities",
    ),
    "only counted": (
        _rewritten(queries, "uneven", r" OR 2 \* sum.*?\)\)? ORDER", " ORDER"),
        "test_batches_that_are_not_whole_are_uneven",
    ),
    "only doubles": (
        _rewritten(queries, "uneven", r"count\(\) != .*? ORDER", "count() > max(i) + 1 ORDER"),
        "test_batches_that_are_not_whole_are_uneven",
    ),
    "guests may write": (_guests_may_write, "test_queries_only_read"),
    "files in reach": (_files_in_reach, "test_queries_only_read"),
    "answers not bounded": (_answers_not_bounded, "test_queries_are_bounded"),
    "rests kept": (_rests_of_failed_queries_kept, "test_a_failed_query_leaves_nothing_behind"),
    "changes not checked": (
        _changes_not_checked,
        "test_prepare_refuses_what_older_points_cannot_follow",
    ),
    "misfits dropped": (_misfits_dropped_in_silence, "test_other_columns_are_refused"),
}


async def _run(url: str, test: str) -> None:
    """Run one test of the contract on a place of its own."""
    contract = Contract()
    contract.url = url
    place = f"m{uuid4().hex}"
    store: SeriesStore = await contract.open(place)
    try:
        await store.prepare(Reading)
        method: Callable[..., Awaitable[None]] = getattr(contract, test.partition("[")[0])
        asked = method.__code__.co_varnames[: method.__code__.co_argcount]
        known = {"store": store, "place": place, "step": timedelta(microseconds=1)}
        await method(**{name: known[name] for name in asked if name in known})
    finally:
        await store.close()


@pytest.mark.parametrize("mutant", sampled([*MUTANTS], [*MUTANTS]))
async def test_the_contract_notices(mutant: str, running_chdb_url: str, monkeypatch: Patch) -> None:
    break_it, test = MUTANTS[mutant]
    with monkeypatch.context() as patch:
        break_it(patch)
        with pytest.raises((AssertionError, Failed, PolyplaneError, pa.ArrowException)):
            await _run(running_chdb_url, test)


@pytest.mark.long
@pytest.mark.parametrize("test", sorted({test for _, test in MUTANTS.values()}))
async def test_the_adapter_passes_the_same_tests(test: str, running_chdb_url: str) -> None:
    await _run(running_chdb_url, test)
    assert hasattr(Contract, test.partition("[")[0])
