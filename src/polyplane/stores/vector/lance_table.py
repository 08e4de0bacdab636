"""How a collection looks in a LanceDB table: schema, record batches, predicates. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from math import ceil, floor
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from polyplane.errors import Misconfigured, Refused
from polyplane.model.collection import Collection
from polyplane.model.items import Held, Hit, Item, Stamp, Vector, Where
from polyplane.model.terms import terms
from polyplane.stores.vector.where import Condition, bounds, conditions

TERMS: Final = "_terms"
"""The column of what a text is found by, in a collection with full text: terms between spaces."""
OWN: Final = ("key", "position", "digest", "vector", TERMS)
"""Columns of ours, besides the text; `digest` is null for a tombstone."""
_SCORES: Final = ("_distance", "_score")

ARROW: Final[dict[type, pa.DataType]] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", "UTC"),
}
_PYTHON: Final = {arrow: python for python, arrow in ARROW.items()}
_OPERATORS: Final = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_INTEGER_BOUND: Final[dict[str, Callable[[float], int]]] = {
    "ge": ceil,
    "gt": floor,
    "le": floor,
    "lt": ceil,
}


def schema(collection: Collection) -> pa.Schema:
    """The columns of a new table: ours, the text, and one per declared tag."""
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("position", pa.int64(), nullable=False),
            pa.field("digest", pa.string()),
            pa.field(collection.text_name, pa.string()),
            pa.field("vector", pa.list_(pa.float32(), collection.dimensions)),
            *([pa.field(TERMS, pa.string())] if collection.full_text else []),
            *(pa.field(name, ARROW[kind]) for name, kind in collection.tag_types.items()),
        ]
    )


def tag_types(collection: Collection, columns: pa.Schema) -> dict[str, type]:
    """Tag name -> Python type, as the table has them."""
    own = {*OWN, collection.text_name}
    return {field.name: _PYTHON[field.type] for field in columns if field.name not in own}


def new_columns(collection: Collection, columns: pa.Schema, puts: Sequence[Item]) -> pa.Schema:
    """The columns that the tags of `puts` need and an untyped table does not have yet."""
    known = tag_types(collection, columns)
    found: dict[str, pa.Field] = {}
    for item in puts:
        for name, value in item.content.tags.items():
            if value is not None and name not in known and name not in found:
                found[name] = pa.field(name, ARROW[_kind(value)])
    return pa.schema(list(found.values()))


def _kind(value: Any) -> type:
    return next(kind for kind in (bool, int, float, datetime, str) if isinstance(value, kind))


def batch(
    collection: Collection,
    columns: pa.Schema,
    puts: Sequence[Item],
    drops: Sequence[str],
    position: int,
) -> pa.RecordBatch:
    """Items and tombstones as rows of the table; a tombstone has a key and a position only."""
    gone = [None] * len(drops)
    contents = [item.content for item in puts]
    made: dict[str, pa.Array] = {
        "key": pa.array([*(item.key for item in puts), *drops], pa.string()),
        "position": pa.array(np.full(len(puts) + len(drops), position, np.int64)),
        "digest": pa.array([*(item.digest for item in puts), *gone], pa.string()),
        "vector": _vectors(collection, puts, len(drops)),
        collection.text_name: pa.array([*(c.text for c in contents), *gone], pa.string()),
    }
    if collection.full_text:
        found_by = (terms_of(collection, content.text) for content in contents)
        made[TERMS] = pa.array([*found_by, *gone], pa.string())
    for name in tag_types(collection, columns):
        values = [*(content.tags.get(name) for content in contents), *gone]
        try:
            made[name] = pa.array(values, columns.field(name).type)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            # Only an untyped tag gets here: declared ones have been checked.
            raise Refused(
                f"Tag {name!r} has values of several types: {error}.",
                field=name,
                fix="Declare the tags of this projection with a TypedDict.",
                key=_strange(puts, name, columns.field(name).type),
            ) from error
    return pa.record_batch([made[name] for name in columns.names], schema=columns)


def shown(columns: pa.Schema) -> list[str]:
    """The columns that a hit is made of."""
    return [name for name in columns.names if name not in ("vector", TERMS)]


def terms_of(collection: Collection, text: str) -> str:
    """What `text` is found by, as the table has it."""
    return " ".join(terms(text, collection.full_text))


def _strange(puts: Sequence[Item], name: str, kind: pa.DataType) -> str:
    """The key of the first item whose tag `name` a column of `kind` cannot hold."""
    for item in puts:
        try:
            pa.scalar(item.content.tags.get(name), kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return item.key
    return ""


def _vectors(collection: Collection, puts: Sequence[Item], gone: int) -> pa.Array:
    """Embeddings as one fixed-size list array, followed by `gone` nulls."""
    size = collection.dimensions
    embeddings = [item.content.embedding for item in puts]
    matrix: npt.NDArray[np.float32] = np.zeros((len(embeddings) + gone, size), np.float32)
    if embeddings:
        try:
            found = np.asarray(embeddings, dtype=np.float32)
            if found.shape != (len(embeddings), size):  # numpy would repeat a single number
                raise ValueError(f"these are of shape {found.shape[1:]}")
            matrix[: len(embeddings)] = found
        except ValueError as error:
            raise Misconfigured(
                f"{collection.name} holds vectors of {size} numbers: {error}.",
                fix="Set `dimensions` to what the embedder gives and raise `version`.",
            ) from error
    if not (finite := np.isfinite(matrix)).all():
        key = puts[int(np.argmin(finite.all(axis=1)))].key
        raise Refused(f"{key}: the vector is not finite.", field="embedding", key=key)
    mask = pa.array(np.arange(len(matrix)) >= len(embeddings))
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), size, mask=mask)


def quoted(name: str) -> str:
    """A column name in SQL, whatever characters it has."""
    return "`" + name.replace("`", "``") + "`"


def literal(value: Any) -> str:
    """A value in SQL. Quotes are doubled and there is no other escape, so nothing gets out."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value + 0)
        case datetime():
            return f"TIMESTAMP '{value.astimezone(UTC).replace(tzinfo=None).isoformat(' ')}'"
        case str():
            return "'" + value.replace("'", "''") + "'"
    raise TypeError(f"A {type(value).__name__} has no SQL literal.")


def among(name: str, values: Iterable[Any]) -> str:
    """`name` is one of `values` (none of them None)."""
    listed = ", ".join(literal(value) for value in values)
    return f"{quoted(name)} IN ({listed})" if listed else "false"


def behind(name: str, value: str) -> str:
    """`name` comes after `value`, by code points."""
    return f"{quoted(name)} > {literal(value)}"


def predicate(collection: Collection, columns: pa.Schema, where: Where | None) -> str:
    """What an item that satisfies `where` looks like, in SQL; empty when any does.

    Whether it lives is no part of it: a tombstone has neither a vector nor words to be found by,
    and to look at each digest first would take longer than the search.

    Raises Refused, naming the tag, for an unknown tag or a value its type cannot have.
    """
    stored = tag_types(collection, columns)
    wanted = conditions(where, collection.tag_types)
    return " AND ".join(_clause(condition, stored.get(condition.name)) for condition in wanted)


def _clause(condition: Condition, kind: type | None) -> str:
    """One condition; in an untyped collection a tag unknown so far has no value anywhere."""
    name = quoted(condition.name)
    if condition.within is None:
        listed = [v for v in condition.values if v is not None and kind and _same(v, kind)]
        clauses = [among(condition.name, listed)] if listed else []
        if None in condition.values:
            clauses.append(f"{name} IS NULL" if kind else "true")
        return f"({' OR '.join(clauses) or 'false'})"
    limits = bounds(condition.within)
    if kind is None or not all(_same(bound, kind, ordered=True) for bound in limits.values()):
        return "false" if limits else "true"
    clauses = []
    for operator, bound in limits.items():
        if kind is int and isinstance(bound, float):
            bound = _INTEGER_BOUND[operator](bound)
        clauses.append(f"{name} {_OPERATORS[operator]} {literal(bound)}")
    return f"({' AND '.join(clauses) or 'true'})"


def _same(value: Any, kind: type, *, ordered: bool = False) -> bool:
    """Whether the engine can compare a column of `kind` with `value`."""
    found = _kind(value)
    numbers = (int, float) if ordered or kind is float else (kind,)
    return found is kind or (kind in (int, float) and found in numbers)


def hits(collection: Collection, found: pa.Table) -> list[Hit]:
    """The living ones of these rows as hits, best first and equals by key.

    Without a distance or a score it is 1.
    """
    names = [name for name in found.column_names if name not in (*OWN, *_SCORES)]
    texts = found[collection.text_name].to_pylist()
    columns = {n: found[n].to_pylist() for n in names if n != collection.text_name}
    scores = _scores(found)
    digests, made = found["digest"].to_pylist(), []
    for row, key in enumerate(found["key"].to_pylist()):
        if digests[row] is None:
            continue
        tags = {name: values[row] for name, values in columns.items()}
        if not collection.tag_types:
            tags = {name: value for name, value in tags.items() if value is not None}
        made.append(Hit(key, scores[row], texts[row], tags))
    return sorted(made, key=lambda hit: (-hit.score, hit.key))


def _scores(found: pa.Table) -> list[float]:
    if "_score" in found.column_names:
        return found["_score"].to_pylist()  # type: ignore[no-any-return]
    if "_distance" not in found.column_names:
        return [1.0] * found.num_rows
    return [max(-1.0, min(1.0, 1.0 - distance)) for distance in found["_distance"].to_pylist()]


def contents(collection: Collection, found: pa.Table) -> list[Held]:
    """Rows as they are held, tombstones too."""
    made = []
    for row in found.to_pylist():
        stamp = Stamp(row.pop("key"), row.pop("position"), row.pop("digest"))
        embedding, text = row.pop("vector"), row.pop(collection.text_name)
        found_by = row.pop(TERMS, None)
        tags = {name: value for name, value in row.items() if value is not None}
        if text is not None and collection.full_text and found_by != terms_of(collection, text):
            tags[TERMS] = found_by  # which nothing derives: whoever compares it sees that
        is_living = stamp.digest is not None
        made.append(Held(stamp, Vector(text, tags, embedding) if is_living else None))
    return made
