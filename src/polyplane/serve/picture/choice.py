"""What of a part of a graph goes into a picture: so much that a person can still read it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

CAPTIONS: Final = ("name", "title")
CAPTION_MAX: Final = 32

Key = tuple[str, str]
"""Label and key of a node."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A node of the picture, so many edges from the middle."""

    key: Key
    caption: str
    told: str
    """All that is known of it, for who asks."""
    hops: int


@dataclass(frozen=True, slots=True)
class Line:
    """All edges between two nodes. `weight` is from 0 to 1; the flags say whether one points so."""

    source: Key
    target: Key
    types: tuple[str, ...]
    told: str
    weight: float
    is_forward: bool
    is_backward: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn; `left_out` nodes are there and not drawn, `truncated`: and more besides."""

    middle: Key
    dots: tuple[Dot, ...]
    lines: tuple[Line, ...]
    left_out: int
    truncated: bool


def drawing_of(
    answer: Mapping[str, Any],
    ends: Mapping[str, tuple[str, str]],
    middle: Key,
    *,
    limit: int,
    weight: str = "strength",
) -> Drawing:
    """What to draw of `answer` (`nodes`, `edges`, `truncated`): the middle and at most `limit` - 1
    others, the nearest first, and of these who is tied to nearer ones most strongly.

    `ends` are the labels that edges of a type lead from and to, `weight` the property of edges that
    says how strong they are; one without it is as strong as can be.
    """
    nodes = {(it["label"], it["key"]): it for it in answer["nodes"]}
    lines = [it for it in _lines(answer["edges"], ends, weight) if _is_drawn(it, nodes)]
    hops = _chosen(nodes, lines, middle, limit)
    dots = tuple(
        Dot(key, caption_of(nodes[key]), _told(nodes[key]), hops[key])
        for key in sorted(hops, key=lambda it: (hops[it], it))
    )
    kept = tuple(it for it in lines if it.source in hops and it.target in hops)
    return Drawing(middle, dots, kept, len(nodes) - len(dots), bool(answer["truncated"]))


def caption_of(node: Mapping[str, Any]) -> str:
    """What a node is called in the picture: by its name or title, else by its key."""
    properties = node["properties"]
    named = next((str(properties[it]) for it in CAPTIONS if properties.get(it)), node["key"])
    line = " ".join(named.split()) or node["key"]
    if len(line) <= CAPTION_MAX:
        return line
    # Of a dotted name the end tells more than the beginning.
    return f"…{line[1 - CAPTION_MAX :]}" if "." in line else f"{line[: CAPTION_MAX - 1]}…"


def _chosen(
    nodes: Mapping[Key, Any], lines: Sequence[Line], middle: Key, limit: int
) -> dict[Key, int]:
    """Node -> hops, ring by ring."""
    near: dict[Key, list[tuple[float, Key]]] = defaultdict(list)
    for line in lines:
        near[line.source].append((line.weight, line.target))
        near[line.target].append((line.weight, line.source))
    hops = {middle: 0} if middle in nodes else {}
    for ring in count(1):
        tied: dict[Key, float] = {}
        for key in hops:
            for weight, other in near[key]:
                if other not in hops:
                    tied[other] = max(weight, tied.get(other, 0.0))
        best = sorted(tied, key=lambda it: (-tied[it], it))[: max(0, limit - len(hops))]
        if not best:
            return hops
        hops.update(dict.fromkeys(best, ring))
    raise AssertionError


def _lines(
    edges: Sequence[Mapping[str, Any]], ends: Mapping[str, tuple[str, str]], weight: str
) -> list[Line]:
    """One line for each two nodes, whatever is between them."""
    between: dict[tuple[Key, Key], list[tuple[Mapping[str, Any], bool]]] = defaultdict(list)
    for edge in edges:
        labels = ends[edge["type"]]
        source, target = (labels[0], edge["source"]), (labels[1], edge["target"])
        if source != target:
            pair = (source, target) if source < target else (target, source)
            between[pair].append((edge, pair[0] == source))
    return [_line(pair, found, weight) for pair, found in sorted(between.items(), key=_pair)]


def _line(
    pair: tuple[Key, Key], found: Sequence[tuple[Mapping[str, Any], bool]], weight: str
) -> Line:
    types = tuple(dict.fromkeys(sorted(kind_of(edge) for edge, _ in found)))
    told = "\n".join(sorted(_told_edge(edge, ahead, pair) for edge, ahead in found))
    strongest = max(_weight(edge, weight) for edge, _ in found)
    forward, backward = any(it for _, it in found), any(not it for _, it in found)
    return Line(*pair, types, told, strongest, forward, backward)


def kind_of(edge: Mapping[str, Any]) -> str:
    """What an edge is called: by its property `type` where it has one, else by its type."""
    return str(edge["properties"].get("type") or edge["type"])


def _weight(edge: Mapping[str, Any], name: str) -> float:
    value = edge["properties"].get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return 1.0
    return min(max(float(value), 0.0), 1.0)


def _told(node: Mapping[str, Any]) -> str:
    lines = [f"{node['label']} {node['key']}"]
    lines += [f"{name}: {it}" for name, it in node["properties"].items() if it is not None]
    return "\n".join(lines)


def _told_edge(edge: Mapping[str, Any], ahead: bool, pair: tuple[Key, Key]) -> str:
    one, other = pair if ahead else pair[::-1]
    known = ", ".join(f"{n}: {it}" for n, it in edge["properties"].items() if it is not None)
    return f"{one[1]} {edge['type']} {other[1]}" + (f" ({known})" if known else "")


def _pair(it: tuple[tuple[Key, Key], Any]) -> tuple[Key, Key]:
    return it[0]


def _is_drawn(line: Line, nodes: Mapping[Key, Any]) -> bool:
    return line.source in nodes and line.target in nodes
