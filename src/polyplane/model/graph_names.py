"""What labels, types and properties of graphs may be called, and what edges may be between."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from polyplane.errors import Misconfigured
from polyplane.model.graph import ID
from polyplane.model.projection import Edges, Nodes, Projection
from polyplane.model.scope import RESERVED

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_GENERATION: Final = re.compile(r"_g\d+$", re.IGNORECASE)
_TAKEN: Final = frozenset({ID, *RESERVED})


def check_graph(projections: Sequence[type[Projection[Any]]]) -> None:
    """Raise Misconfigured for what no graph can be made of.

    Engines differ in whether `name` and `NAME` are one: here they are.
    """
    known: dict[str, type[Projection[Any]]] = {}
    for projection in projections:
        if not issubclass(projection, Nodes | Edges):
            continue
        label, where = projection.label, f"{projection.__name__}: the label"
        if not _NAME.fullmatch(label) or _GENERATION.search(label):
            raise Misconfigured(
                f"{where} {label!r} is none.",
                fix="Use letters, digits and underscores, and no _g<number> at the end.",
            )
        if other := known.get(label.lower()):
            raise Misconfigured(f"{where} {label!r} is that of {other.__name__}, too.")
        known[label.lower()] = projection
        _check_properties(projection)
        if issubclass(projection, Edges):
            _check_ends(projection, projections)


def _check_properties(projection: type[Nodes[Any, Any]] | type[Edges[Any, Any]]) -> None:
    types, where = projection.property_types(), f"{projection.__name__}: the property"
    seen: set[str] = set()
    for name in types:
        if not _NAME.fullmatch(name):
            raise Misconfigured(
                f"{where} {name!r} cannot be called so.",
                fix="Use letters, digits and underscores, a letter first.",
            )
        if name.lower() in _TAKEN:
            raise Misconfigured(
                f"{where} {name!r} is given by the plane.",
                fix="`id` is the key of the row; mark columns: polyplane.marks.tenant(), .owner().",
            )
        if name.lower() in seen:
            raise Misconfigured(f"{where} {name!r} differs from another one by its case only.")
        seen.add(name.lower())
    indexes = projection.indexes if issubclass(projection, Nodes) else ()
    if unknown := [name for name in indexes if name not in types]:
        raise Misconfigured(f"{where} {unknown[0]!r} is to be indexed, and not declared.")


def _check_ends(edges: type[Edges[Any, Any]], projections: Sequence[type[Projection[Any]]]) -> None:
    for name in ("source", "target"):
        end = getattr(edges, name, None)
        if not (isinstance(end, type) and issubclass(end, Nodes)):
            raise Misconfigured(
                f"{edges.__name__} has no {name}.", fix=f"Name its Nodes: {name} = AgentNodes."
            )
        if end not in projections:
            raise Misconfigured(
                f"{edges.__name__} is between {end.__name__}, which is no projection of this"
                " plane.",
                fix=f"Add {end.__name__} to projections.",
            )
