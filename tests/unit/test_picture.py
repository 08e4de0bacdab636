"""Pictures of a neighbourhood: what is chosen, where it stands, and that it is well-formed."""

from __future__ import annotations

from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings, strategies as st

from polyplane.serve.picture.choice import Drawing, caption_of, drawing_of
from polyplane.serve.picture.layout import on_border, placed
from polyplane.serve.picture.svg import page_of, size_of, svg_of

ENDS = {"RELATES_TO": ("Concept", "Concept"), "APPEARS_IN": ("Concept", "Discussion")}
MIDDLE = ("Concept", "k0")
SVG = "{http://www.w3.org/2000/svg}"


def node(key: str, label: str = "Concept", **properties: Any) -> dict[str, Any]:
    return {"label": label, "key": key, "properties": properties}


def edge(source: str, target: str, of: str = "RELATES_TO", **properties: Any) -> dict[str, Any]:
    key = f"{source}-{target}"
    return {
        "type": of,
        "key": key,
        "source": source,
        "target": target,
        "properties": properties,
    }


def test_the_strongest_of_the_nearest_are_drawn() -> None:
    nodes = [node(f"k{n}", name=f"name {n}") for n in range(7)]
    edges = [edge("k0", f"k{n}", strength=n / 10, type="calls") for n in range(1, 5)]
    edges += [edge("k4", "k5", strength=0.9), edge("k5", "k0", strength=0.1), edge("k4", "k0")]
    answer = {"nodes": nodes, "edges": edges, "truncated": True}
    drawing = drawing_of(answer, ENDS, MIDDLE, limit=3)
    assert [it.key[1] for it in drawing.dots] == ["k0", "k3", "k4"]
    assert (drawing.left_out, drawing.truncated) == (4, True)
    both = next(it for it in drawing.lines if it.target == ("Concept", "k4"))
    assert (both.is_forward, both.is_backward, both.weight) == (True, True, 1.0)
    assert both.types == ("RELATES_TO", "calls")
    whole = drawing_of(answer, ENDS, MIDDLE, limit=30)
    assert {it.key[1]: it.hops for it in whole.dots}["k5"] == 1
    assert "k6" not in str(whole.lines) and whole.left_out == 1


def test_captions_are_short_and_tell_the_end_of_dotted_names() -> None:
    assert caption_of(node("k", name="a b")) == "a b"
    assert caption_of(node("k", "Discussion", title="t")) == "t"
    assert caption_of(node("k", name=None)) == "k"
    assert caption_of(node("k", name=f"{'a' * 40}.end")).endswith(".end")
    assert caption_of(node("k", name="word " * 20)).endswith("…")


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """What a graph may answer, whatever its nodes are called."""
    count = draw(st.integers(1, 12))
    names = st.one_of(st.text(max_size=40), st.none())
    nodes = [node(f"k{n}", name=draw(names)) for n in range(count)]
    nodes.append(node("d0", "Discussion", title=draw(names)))
    keys = st.sampled_from([it["key"] for it in nodes[:-1]])
    strengths = st.one_of(st.floats(), st.none(), st.integers(), st.text(max_size=3))
    kinds = st.one_of(st.none(), st.text(max_size=10))
    ties = [
        edge(draw(keys), draw(keys), strength=draw(strengths), type=draw(kinds))
        if draw(st.booleans())
        else edge(draw(keys), draw(st.sampled_from(["d0", "gone"])), "APPEARS_IN")
        for _ in range(draw(st.integers(0, 20)))
    ]
    return {"nodes": nodes, "edges": ties, "truncated": draw(st.booleans())}


@given(answers(), st.integers(2, 12))
@settings(max_examples=40)
def test_any_answer_is_drawn_legibly(answer: dict[str, Any], limit: int) -> None:
    drawing = drawing_of(answer, ENDS, MIDDLE, limit=limit)
    assert drawing.dots[0].key == MIDDLE and len(drawing.dots) <= limit
    assert len(drawing.dots) + drawing.left_out == len(answer["nodes"])
    assert no_caption_is_covered(drawing)
    svg = svg_of(drawing, "a title\x00")
    root = ElementTree.fromstring(svg)
    assert len(root.findall(f"{SVG}g/{SVG}rect")) == len(drawing.dots)
    assert len(root.findall(f"{SVG}g/{SVG}line")) == len(drawing.lines)
    assert svg == svg_of(drawing, "a title\x00")
    assert "<script" not in page_of(drawing, "</title><script>").lower()


def test_a_large_neighbourhood_is_drawn_legibly() -> None:
    nodes = [node(f"k{n}", name=f"package.module.function_{n}") for n in range(120)]
    edges = [edge("k0", f"k{n}", strength=0.5) for n in range(1, 80)]
    edges += [edge(f"k{n % 79 + 1}", f"k{n}", strength=0.9) for n in range(80, 120)]
    answer = {"nodes": nodes, "edges": edges, "truncated": False}
    drawing = drawing_of(answer, ENDS, MIDDLE, limit=120)
    assert len(drawing.dots) == 120
    assert no_caption_is_covered(drawing)


def no_caption_is_covered(drawing: Drawing) -> bool:
    boxes = placed(drawing, {it.key: size_of(it) for it in drawing.dots})
    return not any(
        abs(a[0] - b[0]) < (a[2] + b[2]) / 2 and abs(a[1] - b[1]) < (a[3] + b[3]) / 2
        for a, b in combinations(boxes.values(), 2)
    )


@pytest.mark.parametrize("towards", [(9.0, 0.0), (0.0, -9.0), (3.0, 3.0), (1.0, 0.0)])
def test_a_line_leaves_a_box_at_its_border(towards: tuple[float, float]) -> None:
    x, y = on_border((0.0, 0.0, 4.0, 2.0), towards)
    assert abs(x) <= 2 and abs(y) <= 1
    assert (abs(x) == 2 or abs(y) == 1) or (x, y) == towards


def test_nothing_near_is_one_box() -> None:
    answer = {"nodes": [node("k0", name="alone")], "edges": [], "truncated": False}
    page = page_of(drawing_of(answer, ENDS, MIDDLE, limit=5), "alone")
    assert page.count("<rect") == 2 and "alone" in page
