"""What graphs can be made of, and how they are asked for in a line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any, TypedDict

import pytest
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import graph
from polyplane.model.graph import fitted
from polyplane.runtime.declared import Declared
from polyplane.runtime.ends import Ends, is_used, labelled, needed
from polyplane.serve.cli.graph import _steps, _where
from polyplane.truth.collections import CollectionRow

TYPES: dict[str, type] = {"s": str, "i": int, "f": float, "b": bool, "d": datetime}


class Kind(StrEnum):
    """A text."""

    ONE = "one"


def test_properties_become_what_every_engine_holds() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    given = {"s": Kind.ONE, "i": 3, "f": 2, "b": True, "d": noon}
    found = fitted(given, TYPES)
    assert found == {"s": "one", "i": 3, "f": 2.0, "b": True, "d": noon}
    assert [type(found[name]) for name in "sfd"] == [str, float, datetime]
    assert found["d"].tzinfo is UTC
    assert fitted({"s": None}, TYPES) == {"s": None}


@pytest.mark.parametrize(
    "wrong",
    [
        {"x": 1},
        {"s": 1},
        {"i": True},
        {"i": 1 << 63},
        {"i": 1.0},
        {"f": float("nan")},
        {"f": float("inf")},
        {"f": "1"},
        {"b": 1},
        {"d": "2026-01-01"},
        {"d": datetime(2026, 1, 1)},
    ],
)
def test_what_no_column_holds_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(pp.Refused):
        fitted(wrong, TYPES)


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Dot(Base):
    """A row."""

    __tablename__ = "dot"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Dots(pp.Nodes[Dot]):
    """Nodes."""


class Lines(pp.Edges[Dot]):
    """Edges."""

    source = Dots
    target = Dots


def declared(*projections: type[Any]) -> Declared:
    """What a plane makes of it."""
    return Declared.of([], [Dot], projections, [])


def test_labels_by_default() -> None:
    assert (Dots.label, Lines.label) == ("Dot", "LINES")
    declared(Lines, Dots)


def _wrong() -> Sequence[tuple[str, list[type[Any]]]]:
    class Bare(pp.Edges[Dot]):
        pass

    class Twice(pp.Nodes[Dot]):
        label = "LINES"

    class Later(pp.Nodes[Dot]):
        label = "Dot_g2"

    class Own(TypedDict):
        id: str

    class Reserved(pp.Nodes[Dot, Own]):
        label = "Reserved"

    class Like(TypedDict):
        name: str
        Name: str

    class Alike(pp.Nodes[Dot, Like]):
        label = "Alike"

    class Indexed(pp.Nodes[Dot]):
        label = "Indexed"
        indexes = ("name",)

    return [
        ("no source", [Dots, Bare]),
        ("is that of", [Dots, Lines, Twice]),
        ("is none", [Later]),
        ("given by the plane", [Reserved]),
        ("by its case only", [Alike]),
        ("not declared", [Indexed]),
        ("no projection of this", [Lines]),
    ]


@pytest.mark.parametrize("why, projections", _wrong())
def test_graphs_that_cannot_be(why: str, projections: list[type[Any]]) -> None:
    with pytest.raises(pp.Misconfigured, match=why):
        declared(*projections)


def row(name: str, generation: int, state: str, ends: Sequence[str] = (), **how: Any) -> Any:
    """A row of the journal: nodes `dots`, edges `lines`."""
    label = "LINES" if ends else "Dot"
    shape = {"kind": "graph", "dimensions": 0, "tag_types": {}, "indexes": [], "text_name": ""}
    shape |= {"key_prefix": "", "ttl_s": 0, "label": label, "ends": [*ends]}
    physical = name if generation == 1 else f"{name}_g{generation}"
    found = CollectionRow(
        physical, name, generation, 1, "own", shape, state, True, state != "given up", True, 9.0, ""
    )
    return found._replace(state="retired" if state == "given up" else state, **how)


def test_edges_follow_the_nodes_that_are_read() -> None:
    ends = Ends([Lines, Dots], lambda it: it.definition == "own")
    old, new = row("dots", 1, "retired"), row("dots", 2, "active")
    lines = row("lines", 1, "active", ("Dot", "Dot"))
    assert not ends.is_due("lines", [row("dots", 1, "active"), lines])
    assert ends.is_due("lines", [old, new, lines])
    assert not ends.is_due("lines", [old, new._replace(definition="other"), lines])
    built = row("lines", 2, "building", ("Dot_g2", "Dot_g2"))
    assert not ends.is_due("lines", [old, new, lines, built])
    failed = row("lines", 2, "given up", ("Dot_g2", "Dot_g2"), error="1 missing")
    assert not ends.is_due("lines", [old, new, lines, failed])
    with pytest.raises(pp.Conflict, match="1 missing"):
        ends.have_followed("lines", [old, new, lines, failed])
    behind = row("lines", 3, "active", ("Dot", "Dot"))
    assert ends.is_due("lines", [old, new, failed, behind])  # it may be well by now
    done = row("lines", 2, "active", ("Dot_g2", "Dot_g2"))
    assert ends.have_followed("lines", [old, new, done])
    assert ends.for_new("lines", [row("dots", 1, "building")]) == ("Dot", "Dot")


def test_nodes_stay_while_edges_are_between_them() -> None:
    old, new = row("dots", 1, "retired"), row("dots", 2, "active")
    between = row("lines", 1, "active", ("Dot", "Dot"))
    assert needed([old, new, between]) == {"dots"}
    assert is_used(old, [old, new, between]) and not is_used(new, [old, new, between])
    gone = row("lines", 1, "given up", ("Dot", "Dot"))
    assert needed([old, new, gone]) == set()
    assert is_used(old, [old, new, gone])
    assert [it.name for it in labelled(["Dot_g2", "Dot", "Dog"], [old, new])] == ["dots_g2", "dots"]


def test_conditions_and_patterns_in_a_line() -> None:
    assert _where(["a=1", "b>=0.5", "b<2", "c=x=y", "d=true", "e=[1]"]) == {
        "a": 1,
        "b": {"ge": 0.5, "lt": 2},
        "c": "x=y",
        "d": True,
        "e": "[1]",
    }
    assert _steps("A -X-> B <-Y- C -Z- D") == [
        {"label": "A"},
        {"type": "X", "direction": "out"},
        {"label": "B"},
        {"type": "Y", "direction": "in"},
        {"label": "C"},
        {"type": "Z", "direction": "both"},
        {"label": "D"},
    ]
    for wrong in ("a", "a!"):
        with pytest.raises(pp.Refused):
            _where([wrong])
    with pytest.raises(pp.Refused):
        _where(["a=1", "a>2"])
    for wrong in ("A X B", "A <-X-> B", "A --> B"):
        with pytest.raises(pp.Refused):
            _steps(wrong)


def test_the_same_edge_and_node_have_one_digest() -> None:
    from polyplane.flow.deriving import GraphDeriver

    class Moved(Lines):
        name = "lines"

        def derive(self, dot: Dot, /) -> graph.Edge:
            return graph.Edge(str(dot.id), "1")

    deriver = GraphDeriver(Moved(), ["a", "b"])
    rows = [("1", Dot(id=1)), ("2", Dot(id=2)), ("3", Dot(id=1))]
    one, two, same = (digest for _, digest in deriver.digests(rows))
    assert one == same != two
    assert deriver.definition == "graph/lines/1/LINES() from a to b"
