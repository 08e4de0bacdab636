"""ClickHouse SQL for the reading verbs. Pure: values travel as bound parameters only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, Final, NamedTuple
from uuid import UUID

from polyplane.errors import Refused
from polyplane.model.items import Range, Where
from polyplane.model.points import EVENT_ID
from polyplane.model.scope import TENANT_ID, Scope
from polyplane.model.stream import Column, Stream
from polyplane.stores.series.clickhouse_ddl import batch_of, index_of, quoted

LIST_MAX: Final = 1_000
"""Most values of one list filter."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_OPERATORS: Final = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)
_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`", re.DOTALL)
# `readonly` stops everything that writes or connects, but not these: they reach the files and
# the Python objects of the process the engine lives in.
_FORBIDDEN: Final = re.compile(r"\bINTO OUTFILE\b|\b(?:file|python|eval)\s*\(", re.I)


class Query(NamedTuple):
    """SQL and the parameters bound to its `{name:Type}` places."""

    sql: str
    parameters: dict[str, Any]


def narrowed(stream: type[Stream], scope: Scope, where: Where) -> Where:
    """`where`, and only what `scope` sees of the stream."""
    if not stream.tenant_column or not (limits := scope.limits((TENANT_ID,))):
        return where
    return {**where, stream.tenant_column: limits[TENANT_ID]}


def count(table: str, stream: type[Stream], where: Where) -> Query:
    """How many points there are; and two of their tenants, '' for a point that has none."""
    conditions, parameters = filters(stream, where)
    whose = f", groupUniqArray(2)({_tenant(stream)}) AS tenants" if stream.tenant_column else ""
    return Query(f"SELECT count() AS n{whose} FROM {table} FINAL{_where(conditions)}", parameters)


def _tenant(stream: type[Stream]) -> str:
    """Whose a point is, as a text that is never null: what aggregates must not pass over."""
    return f"ifNull(toString({quoted(stream.tenant_column)}), '')"


def window(
    table: str,
    stream: type[Stream],
    *,
    value: str,
    bucket_s: int,
    where: Where,
    start: datetime | None,
    end: datetime | None,
    limit: int,
) -> Query:
    """avg, min, max and count of `value` per bucket of `bucket_s` seconds since 1970, ascending.

    Points in [start, end).
    """
    column = declared(stream, value)
    if column.type not in (int, float, bool):
        raise Refused(f"{value} is no number.", field="value")
    if not 1 <= bucket_s <= 366 * 86_400:
        raise Refused("A bucket has from one second to a year.", field="bucket_s")
    _check_limit(limit)
    conditions, parameters = filters(stream, where)
    for name, operator, bound in (("start", ">=", start), ("end", "<", end)):
        if bound is not None:
            parameters[name] = _micros(bound, name)
            conditions.append(f"time {operator} {_place(datetime, name)}")
    if column.optional:
        conditions.append(f"{quoted(value)} IS NOT NULL")
    bucket = "intDiv(toUnixTimestamp64Micro(time), {step:Int64}) * {step:Int64}"
    inner = f"assumeNotNull({quoted(value)})" if column.optional else quoted(value)
    shown, whose = "", ""
    if stream.tenant_column:
        shown = ", min(tenant__) AS tenant_min, max(tenant__) AS tenant_max"
        whose = f", {_tenant(stream)} AS tenant__"
    points = f"SELECT time, toFloat64({inner}) AS v{whose} FROM {table} FINAL{_where(conditions)}"
    sql = (
        f"SELECT fromUnixTimestamp64Micro({bucket}, 'UTC') AS bucket, avg(v) AS avg,"
        f" min(v) AS min, max(v) AS max, toInt64(count()) AS count{shown}"
        f" FROM ({points})"
        " GROUP BY bucket ORDER BY bucket LIMIT {limit:UInt64}"
    )
    return Query(sql, {**parameters, "step": bucket_s * 1_000_000, "limit": limit})


def latest(table: str, stream: type[Stream], *, by: str, where: Where, limit: int) -> Query:
    """The newest point for each value of column `by`, ordered by it.

    The newest times are found first, in two columns; only the points of those times are read
    whole. Needs no FINAL: the newest of several copies is the point.
    """
    declared(stream, by)
    _check_limit(limit)
    conditions, parameters = filters(stream, where)
    group = quoted(by)
    times = f"SELECT {group}, max(time) FROM {table}{_where(conditions)} GROUP BY {group}"
    newest = [*conditions, f"({group}, time) IN ({times})"]
    columns = [column.name for column in stream.columns()]
    carried = ", ".join(map(quoted, columns))
    picked = ", ".join(f"tupleElement(p, {i}) AS {quoted(n)}" for i, n in enumerate(columns, 1))
    sql = (
        f"SELECT {picked} FROM (SELECT argMax(tuple({carried}), event_id) AS p"
        f" FROM {table}{_where(newest)} GROUP BY {group})"
        f" ORDER BY {group} LIMIT {{limit:UInt64}}"
    )
    return Query(sql, {**parameters, "limit": limit})


def stored(table: str, batches: list[int], first: int, last: int) -> Query:
    """How many different points of `batches` there are, `first` to `last` microseconds in time.

    Counts without FINAL: `event_id` tells copies apart.
    """
    span = [f"time BETWEEN {_place(datetime, 'first')} AND {_place(datetime, 'last')}"]
    parameters: dict[str, Any] = {"first": first, "last": last}
    if len(batches) <= LIST_MAX:  # more would not fit in a request, and an index would not help
        span.append(f"{batch_of(EVENT_ID)} IN {{batches:Array(UInt64)}}")
        parameters["batches"] = batches
    return Query(f"SELECT uniqExact({EVENT_ID}) FROM {table}{_where(span)}", parameters)


def partitions(table: str) -> Query:
    """The months of which there are points."""
    return Query(f"SELECT DISTINCT toString(toYYYYMM(time)) AS name FROM {table} ORDER BY name", {})


def partition(table: str, stream: type[Stream], name: str) -> Query:
    """Rows, points and the digest of the points of one month.

    The digest is a sum and an exclusive or of two hashes of each point: the order does not
    matter, and copies do not, since FINAL leaves one of each.
    """
    columns = ", ".join([*(quoted(column.name) for column in stream.columns()), EVENT_ID])
    month = "toYYYYMM(time) = {month:UInt32}"
    sql = (
        f"SELECT (SELECT count() FROM {table} WHERE {month}) AS rows, toInt64(count()) AS points,"
        f" lower(concat(leftPad(hex(sum(sipHash64(tuple({columns})))), 16, '0'),"
        f" leftPad(hex(groupBitXor(cityHash64(tuple({columns})))), 16, '0'))) AS digest"
        f" FROM {table} FINAL WHERE {month}"
    )
    return Query(sql, {"month": int(name)})


def batches(table: str, numbers: list[int], first: int, last: int) -> Query:
    """Per batch: its points, how many different ones, and the last of their indexes."""
    if len(numbers) > LIST_MAX:
        raise Refused(f"At most {LIST_MAX} batches.", field="numbers")
    conditions = [f"{batch_of(EVENT_ID)} IN {{batches:Array(UInt64)}}"]
    parameters: dict[str, Any] = {"batches": [number % 2**64 for number in numbers]}
    if last:
        conditions.append(
            f"time BETWEEN {_place(datetime, 'first')} AND {_place(datetime, 'last')}"
        )
        parameters |= {"first": first, "last": last}
    sql = (
        "SELECT reinterpretAsInt64(b) AS number, toInt64(count()) AS points,"
        " toInt64(uniqExact(i)) AS different, reinterpretAsInt64(max(i)) AS last"
        f" FROM (SELECT {batch_of(EVENT_ID)} AS b, {index_of(EVENT_ID)} AS i"
        f" FROM {table} FINAL{_where(conditions)}) GROUP BY b"
    )
    return Query(sql, parameters)


def uneven(table: str, *, may_lack: bool) -> Query:
    """The batches whose points are not those from 0 to some last one, each once.

    As far as number and sum of their indexes tell; that needs no memory for each point. With
    `may_lack` only those that have more points than they can.
    """
    wrong = (
        "count() > max(i) + 1"
        if may_lack
        else "count() != max(i) + 1 OR 2 * sum(i) != max(i) * (max(i) + 1)"
    )
    sql = (
        "SELECT reinterpretAsInt64(b) AS number"
        f" FROM (SELECT {batch_of(EVENT_ID)} AS b, {index_of(EVENT_ID)} AS i FROM {table} FINAL)"
        f" GROUP BY b HAVING {wrong} ORDER BY number LIMIT {LIST_MAX}"
    )
    return Query(sql, {})


def filters(stream: type[Stream], where: Where) -> tuple[list[str], dict[str, Any]]:
    """`where` as SQL conditions and their parameters; Refused names what does not fit."""
    conditions: list[str] = []
    parameters: dict[str, Any] = {}
    for name, wanted in where.items():
        column = declared(stream, name)
        if column.type is dict:
            raise Refused(f"{name} is JSON and cannot be filtered by.", field=name)

        def bind(value: Any, kind: type = column.type, name: str = name) -> str:
            place = f"p{len(parameters)}"
            parameters[place] = _bound(name, kind, value)
            exact = int if kind is float and isinstance(value, int) else kind
            return _place(exact, place)

        if isinstance(wanted, Range):
            if column.type in (bool, UUID, str):
                raise Refused(f"{name} has no order.", field=name)
            for bound, operator in _OPERATORS.items():
                limit = getattr(wanted, bound)
                if limit is not None:
                    kind = float if column.type is int else column.type  # fractions bound too
                    conditions.append(f"{quoted(name)} {operator} {bind(limit, kind)}")
        elif isinstance(wanted, list | tuple | set | frozenset):
            if len(wanted) > LIST_MAX:
                raise Refused(f"{name}: at most {LIST_MAX} values.", field=name)
            known = [bind(value) for value in wanted if value is not None]
            any_of = [f"{quoted(name)} IN ({', '.join(known)})"] if known else []
            any_of += [f"{quoted(name)} IS NULL"] if None in wanted else []
            conditions.append(f"({' OR '.join(any_of)})" if any_of else "0")
        elif wanted is None:
            conditions.append(f"{quoted(name)} IS NULL")
        else:
            conditions.append(f"{quoted(name)} = {bind(wanted)}")
    return conditions, parameters


def declared(stream: type[Stream], name: str) -> Column:
    """The column called `name`; Refused when `stream` declares none."""
    columns = {column.name: column for column in stream.columns()}
    if name not in columns:
        known = f"It has {', '.join(columns)}."
        raise Refused(f"{stream.name} has no column {name!r}.", field=name, fix=known)
    return columns[name]


def check_reading(canonical: str, parameters: Mapping[str, Any]) -> None:
    """Refused unless `canonical` (as the engine prints the parsed query) is one plain SELECT.

    Every parameter must have its typed place, or the driver would paste it into the text.
    """
    bare = _QUOTED.sub("''", canonical)
    if not re.match(r"(?:SELECT|WITH)\b", bare):
        raise Refused("Only SELECT is allowed.", field="sql")
    if _FORBIDDEN.search(bare):
        raise Refused("This query reaches outside of the tables.", field="sql")
    for name in parameters:
        if not re.search(rf"\{{{re.escape(name)}\s*:", bare):
            raise Refused(f"The query has no place {{{name}:Type}}.", field=name)


def plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters` with timestamps in UTC text, which does not depend on the server's zone."""

    def plain(name: str, value: Any) -> Any:
        if isinstance(value, datetime):
            micros = _micros(value, name)
            moment = _EPOCH + micros * _MICROSECOND
            return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
        return str(value) if isinstance(value, UUID) else value

    return {name: plain(name, value) for name, value in parameters.items()}


def _bound(name: str, kind: type, value: Any) -> Any:
    """`value` in the form in which it is compared with a column of Python type `kind`."""
    match value:
        case bool() if kind is bool:
            return value
        case int() if kind in (int, float) and not isinstance(value, bool):
            if -(2**63) <= value < 2**63:
                return value
        case float() if kind is float and isfinite(value):
            return value
        case str() if kind is str:
            return value
        case datetime() if kind is datetime:
            return _micros(value, name)
        case UUID() if kind is UUID:
            return str(value)
        case str() if kind is UUID and _UUID.fullmatch(value):
            return value
    raise Refused(f"{name} is a {kind.__name__}, {value!r:.60} is not.", field=name)


def _place(kind: type, name: str) -> str:
    """The place in SQL for parameter `name` of Python type `kind`."""
    if kind is datetime:  # microseconds since 1970: exact, and free of any zone
        return f"fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')"
    types = {bool: "Bool", int: "Int64", float: "Float64", str: "String", UUID: "UUID"}
    return f"{{{name}:{types[kind]}}}"


def _micros(moment: datetime, field: str) -> int:
    if moment.tzinfo is None:
        raise Refused(f"{field} has no zone.", field=field)
    return (moment - _EPOCH) // _MICROSECOND


def _where(conditions: list[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= 100_000:
        raise Refused("limit must be from 1 to 100,000.", field="limit")
