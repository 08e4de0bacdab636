"""Reading statements in the words of Cypher; every value is a parameter. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from polyplane.model.collection import Collection
from polyplane.model.graph import ID, Direction
from polyplane.model.items import Where
from polyplane.model.scope import Scope
from polyplane.stores.graph.asking import seen
from polyplane.stores.graph.neo4j_names import Names, encoded, quoted
from polyplane.stores.vector.where import Condition, bounds

_OPERATORS: Final = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


class Asked:
    """What a statement asks: its parameters, and the conditions that need them."""

    def __init__(self, names: Names, scope: Scope, parameters: Mapping[str, Any]) -> None:
        self.names, self._scope = names, scope
        self.parameters = dict(parameters)

    def of(self, collection: Collection) -> str:
        """The label of living nodes, or the type of edges."""
        return quoted(self.names.of(collection.labelled))

    def is_seen(self, variable: str, collection: Collection, where: Where | None = None) -> str:
        """That the scope sees the node or edge, and it satisfies `where`."""
        asked = seen(collection, self._scope, where)
        return " AND ".join(f"({self._clause(variable, it)})" for it in asked) or "true"

    def _clause(self, variable: str, condition: Condition) -> str:
        name = f"{variable}.{quoted(condition.name)}"
        if condition.within is not None:
            limits = bounds(condition.within).items()
            return (
                " AND ".join(f"{name} {_OPERATORS[it]} {self.bind(to)}" for it, to in limits)
                or "true"
            )
        some = [value for value in condition.values if value is not None]
        any_of = f"{name} IN {self.bind(some)}"
        return f"{name} IS NULL OR {any_of}" if None in condition.values else any_of

    def bind(self, value: Any) -> str:
        """A parameter with this value."""
        name = f"p{len(self.parameters)}"
        several = isinstance(value, list)
        self.parameters[name] = [_given(it) for it in value] if several else _given(value)
        return f"${name}"


def _given(value: Any) -> Any:
    return encoded(value, None) if isinstance(value, datetime) else value


def relation(variable: str, kinds: str, direction: Direction) -> str:
    """An edge between two nodes, gone in this direction."""
    left = "<" if direction == "in" else ""
    right = ">" if direction == "out" else ""
    return f"{left}-[{variable}:{kinds}]-{right}"


def ordered(name: str | None, keys: Sequence[str], *, descending: bool) -> str:
    """In the order of `name`, what has no value last, and then of keys."""
    by_keys = [f"{key}.{ID}" for key in keys]
    if name is None:
        return "ORDER BY " + ", ".join(by_keys)
    way = " DESC" if descending else ""
    return "ORDER BY " + ", ".join([f"{name} IS NULL", f"{name}{way}", *by_keys])
