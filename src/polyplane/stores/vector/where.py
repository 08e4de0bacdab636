"""What a filter and a tag may be: the same answer for every vector engine. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any, Final, NamedTuple

from polyplane.errors import Misconfigured, Refused
from polyplane.model.collection import Collection
from polyplane.model.items import Item, Range, Where
from polyplane.model.scope import RESERVED, Scope

LIMIT_MAX: Final = 10_000
"""The most hits one search may ask for."""

_INT64: Final = 2**63


class Condition(NamedTuple):
    """Tag `name` is any of `values` (None among them: has no value), or lies `within` bounds."""

    name: str
    values: tuple[Any, ...] = ()
    within: Range | None = None


def bounds(within: Range) -> dict[str, float | datetime]:
    """The bounds that are set, by operator name: ge, gt, le, lt."""
    named = {"ge": within.ge, "gt": within.gt, "le": within.le, "lt": within.lt}
    return {name: bound for name, bound in named.items() if bound is not None}


def fits(value: Any, kind: type | None) -> bool:
    """Whether a tag of type `kind` (None: any) can have `value`."""
    match value:
        case None:
            return True
        case bool():
            return kind in (bool, None)
        case int():
            return kind in (int, float, None) and -_INT64 <= value < _INT64
        case float():
            return kind in (float, None) and isfinite(value)
        case str():
            return kind in (str, None)
        case datetime():
            return kind in (datetime, None) and value.tzinfo is not None
    return False


def _bound_fits(bound: Any, kind: type | None) -> bool:
    """Whether tags of type `kind` can be compared with `bound`: fractions bound integers too."""
    if kind in (str, bool) or isinstance(bound, (str, bool)):
        return False
    return fits(bound, float if kind is int else kind)


def conditions(where: Where | None, tag_types: Mapping[str, type]) -> list[Condition]:
    """`where`, checked against `tag_types` (empty: untyped). All conditions must hold.

    Raises Refused, naming the tag, for an unknown tag or a value its type cannot have.
    """
    found = []
    for name, wanted in (where or {}).items():
        if tag_types and name not in tag_types:
            known = ", ".join(sorted(tag_types))
            raise Refused(f"There is no tag {name!r}.", field=name, fix=f"Known: {known}.")
        kind = tag_types.get(name)
        if isinstance(wanted, Range):
            limits = bounds(wanted).values()
            fit = all(_bound_fits(bound, kind) for bound in limits)
            fit = fit and len({isinstance(bound, datetime) for bound in limits}) <= 1
            condition = Condition(name, within=wanted)
        else:
            many = isinstance(wanted, (list, tuple, set, frozenset))
            values = tuple(wanted) if many else (wanted,)
            fit = all(fits(value, kind) for value in values)
            condition = Condition(name, values)
        if not fit:
            expected = kind.__name__ if kind else "str, int, float, bool or datetime with a zone"
            raise Refused(
                f"Tag {name!r} cannot be compared with {wanted!r}.",
                field=name,
                fix=f"Its type is {expected}.",
            )
        found.append(condition)
    return found


def narrowed(collection: Collection, scope: Scope, where: Where | None) -> Where | None:
    """`where`, and only what `scope` sees of `collection`."""
    limits = scope.limits(collection.marks)
    return {**(where or {}), **limits} if limits else where


def reserved(collection: Collection) -> tuple[str, ...]:
    """What says whose an item is, where the collection's items do not say it."""
    return tuple(name for name in RESERVED if name not in collection.marks)


def check_limit(limit: int) -> None:
    """Refused for a limit out of bounds."""
    if not 1 <= limit <= LIMIT_MAX:
        raise Refused(f"limit must be from 1 to {LIMIT_MAX}.", field="limit")


def check_full_text(collection: Collection) -> None:
    """Refused for a collection whose items are not found by their words."""
    if not collection.full_text:
        raise Refused(
            f"{collection.name} has no full text.",
            field="mode",
            fix='Declare it: full_text = "english" in the projection.',
        )


def check_query(collection: Collection, embedding: Sequence[float], limit: int) -> None:
    """Refused for a vector of another length or not finite, or a limit out of bounds."""
    check_limit(limit)
    if len(embedding) != collection.dimensions or not all(map(isfinite, embedding)):
        raise Refused(
            f"{collection.name} compares vectors of {collection.dimensions} finite numbers.",
            field="embedding",
        )


def check_names(collection: Collection, names: Sequence[str], reserved: Sequence[str]) -> None:
    """Misconfigured for a tag name that an engine could not store or that is its own."""
    for name in names:
        if not (name.isascii() and name.isidentifier()) or name in reserved:
            raise Misconfigured(
                f"{collection.name}: a tag cannot be called {name!r}.",
                fix=f"Use an ASCII identifier other than {', '.join(reserved)}.",
            )


def check_tags(collection: Collection, puts: Sequence[Item], reserved: Sequence[str]) -> None:
    """Refused, naming the tag, for an item whose tags are not of the declared types.

    Misconfigured for an undeclared name that an engine could not store (`check_names`).
    """
    types = collection.tag_types
    sound = set(types)
    for item in puts:
        for name, value in item.content.tags.items():
            if name not in sound:
                if types:
                    raise Refused(
                        f"{item.key}: tag {name!r} is not declared.", field=name, key=item.key
                    )
                check_names(collection, [name], reserved)
                sound.add(name)
            if not fits(value, types.get(name)):
                raise Refused(
                    f"{item.key}: tag {name!r} cannot be {value!r}.", field=name, key=item.key
                )
