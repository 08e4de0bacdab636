"""How a collection looks in Qdrant: points, payloads, filters. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
from qdrant_client import models

from polyplane.errors import Misconfigured, Refused
from polyplane.model.collection import Collection
from polyplane.model.items import Held, Hit, Item, Stamp, Vector, Where
from polyplane.stores.vector import qdrant_terms
from polyplane.stores.vector.where import Condition, bounds, conditions

KEY: Final = "_key"
POSITION: Final = "_position"
DIGEST: Final = "_digest"
OWN: Final = (KEY, POSITION, DIGEST)
"""What of a payload is ours; a tombstone has no digest, and nothing else."""

STRANGE: Final = "\0point "
"""The key of a point that says none: this, which no key of truth begins with, and its id."""
_AHEAD: Final = 1 << 53
"""The position of a point that says none: no gate lets a change replace it."""

INDEXES: Final = {
    str: models.PayloadSchemaType.KEYWORD,
    int: models.PayloadSchemaType.INTEGER,
    float: models.PayloadSchemaType.FLOAT,
    bool: models.PayloadSchemaType.BOOL,
    datetime: models.PayloadSchemaType.DATETIME,
}
_OPERATORS: Final = {"ge": "gte", "gt": "gt", "le": "lte", "lt": "lt"}


def point_id(collection: Collection, key: str) -> str:
    """The key itself when it is a UUID in its canonical form, else a UUID made from it."""
    try:
        if str(UUID(key)) == key:
            return key
    except ValueError:
        pass
    return str(uuid5(uuid5(NAMESPACE_URL, f"polyplane:{collection.target}"), key))


def older_than(position: int) -> models.Filter:
    """The gate: what a point must be so that an update with `position` may replace it."""
    return models.Filter(
        must=[models.FieldCondition(key=POSITION, range=models.Range(lt=position))]
    )


def under(keys: Sequence[str]) -> models.Filter:
    """What is held under `keys`, whatever the ids of its points; or is named by its id alone."""
    match = models.MatchAny(any=list(keys))
    held: list[models.Condition] = [models.FieldCondition(key=KEY, match=match)]
    if ids := [_id_of(key) for key in keys if key.startswith(STRANGE)]:
        held.append(models.HasIdCondition(has_id=ids))
    return models.Filter(should=held)


def _id_of(key: str) -> models.ExtendedPointId:
    name = key.removeprefix(STRANGE)
    return int(name) if name.isdecimal() else name


def points(
    collection: Collection, puts: Sequence[Item], drops: Sequence[str], position: int
) -> list[models.PointStruct]:
    """Items and tombstones as points. Raises Refused for a vector that is not finite."""
    made = [
        models.PointStruct(
            id=point_id(collection, item.key),
            vector=_vectors(collection, item),
            payload={
                KEY: item.key,
                POSITION: position,
                DIGEST: item.digest,
                collection.text_name: item.content.text,
                **{n: _encoded(v) for n, v in item.content.tags.items() if v is not None},
            },
        )
        for item in puts
    ]
    made += [
        models.PointStruct(
            id=point_id(collection, key), vector={}, payload={KEY: key, POSITION: position}
        )
        for key in drops
    ]
    return made


def _vectors(collection: Collection, item: Item) -> Any:
    """The embedding; in a collection with full text also what the text is found by."""
    embedding = _vector(collection, item)
    if not collection.full_text:
        return embedding
    found_by = qdrant_terms.weighed(item.content.text, collection.full_text)
    return {"": embedding} | ({qdrant_terms.NAME: found_by} if found_by.indices else {})


def _vector(collection: Collection, item: Item) -> list[float]:
    vector = np.asarray(item.content.embedding, dtype=np.float32)
    if vector.shape != (collection.dimensions,):
        raise Misconfigured(
            f"{collection.name} holds vectors of {collection.dimensions} numbers, "
            f"not of shape {vector.shape}.",
            fix="Set `dimensions` to what the embedder gives and raise `version`.",
        )
    if not np.isfinite(vector).all():
        raise Refused(f"{item.key}: the vector is not finite.", field="embedding", key=item.key)
    return vector.tolist()  # type: ignore[no-any-return]


def _encoded(value: Any) -> Any:
    """A tag as JSON; timestamps as RFC 3339."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value


def _decoded(value: Any, kind: type) -> Any:
    if value is None:
        return None
    return datetime.fromisoformat(value) if kind is datetime else kind(value)


def hit(collection: Collection, payload: Mapping[str, Any], score: float) -> Hit:
    """A living point as a hit with this score. In an untyped collection timestamps stay RFC 3339
    text.
    """
    if collection.tag_types:
        kinds = collection.tag_types.items()
        tags = {name: _decoded(payload.get(name), kind) for name, kind in kinds}
    else:
        own = {*OWN, collection.text_name}
        tags = {name: value for name, value in payload.items() if name not in own}
    return Hit(payload[KEY], score, payload[collection.text_name], tags)


def stamp(record: models.Record) -> Stamp:
    """What a point, living or not, says of itself; whoever has put it there."""
    payload = record.payload or {}
    key, position, digest = (payload.get(name) for name in OWN)
    if not isinstance(key, str):
        return Stamp(f"{STRANGE}{record.id}", _AHEAD, str(digest))
    if type(position) is not int:
        return Stamp(key, _AHEAD, str(digest))
    return Stamp(key, position, None if digest is None else str(digest))


def cosine(score: float) -> float:
    """A cosine as it can be: what rounding adds is taken off."""
    return max(-1.0, min(1.0, score))


def hits(collection: Collection, points: Iterable[models.Record | models.ScoredPoint]) -> list[Hit]:
    """The living ones of `points` as hits; what is none of ours is passed over."""
    return [
        hit(collection, payload, getattr(point, "score", 1.0))
        for point in points
        if (payload := point.payload or {}) and _is_ours(collection, payload)
    ]


def _is_ours(collection: Collection, payload: Mapping[str, Any]) -> bool:
    texts = (payload.get(name) for name in (KEY, DIGEST, collection.text_name))
    return all(isinstance(text, str) for text in texts)


def held(collection: Collection, record: models.Record) -> Held:
    """A point as it is held, living or not; of one that is none of ours, only its stamp."""
    payload, found = record.payload or {}, stamp(record)
    if not _is_ours(collection, payload):
        return Held(found, None)
    text, tags = hit(collection, payload, 1.0)[2:]
    tags = {name: value for name, value in tags.items() if value is not None}
    given: Any = record.vector
    if collection.full_text:
        given = given or {}
        if not qdrant_terms.is_of(given.get(qdrant_terms.NAME), text, collection.full_text):
            tags[qdrant_terms.NAME] = ""  # which nothing derives: whoever compares it sees that
        given = given.get("")
    return Held(found, Vector(text, tags, given))


def filtered(
    collection: Collection, where: Where | None, ids: Sequence[str] | None = None
) -> models.Filter:
    """Points that satisfy `where`, of those with `ids` if they are given.

    Tombstones need no condition: they have no vector to find.

    Raises Refused, naming the tag, for an unknown tag or a value its type cannot have.
    """
    types = collection.tag_types
    must = [_clause(c, types.get(c.name)) for c in conditions(where, types)]
    if ids is not None:
        must.append(models.HasIdCondition(has_id=list(ids)))
    return models.Filter(must=must)


def _clause(condition: Condition, kind: type | None) -> models.Condition:
    if condition.within is None:
        return models.Filter(
            # Without any value to be equal to, nothing matches: no point has no id.
            should=[_equal(condition.name, value, kind) for value in condition.values]
            or [models.HasIdCondition(has_id=[])]
        )
    limits = {_OPERATORS[name]: bound for name, bound in bounds(condition.within).items()}
    if not limits:
        return models.Filter()
    return models.FieldCondition(key=condition.name, range=_range(limits))


def _equal(name: str, value: Any, kind: type | None) -> models.Condition:
    """Numbers other than integer tags and timestamps are compared by value, not by form."""
    if value is None:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=name))
    by_form = isinstance(value, (str, bool)) or kind is int
    if by_form:
        return models.FieldCondition(key=name, match=models.MatchValue(value=value))
    return models.FieldCondition(key=name, range=_range({"gte": value, "lte": value}))


def _range(limits: dict[str, Any]) -> models.Range | models.DatetimeRange:
    if any(isinstance(bound, datetime) for bound in limits.values()):
        return models.DatetimeRange(**limits)
    return models.Range(**limits)
