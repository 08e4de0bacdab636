"""Where everything stands: by springs, then so that no caption covers another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, pi, sin, sqrt
from typing import Any, Final

import networkx as nx
import numpy as np
import numpy.typing as npt

from polyplane.serve.picture.choice import Drawing, Key

ROUNDS: Final = 200
SEED: Final = 7
GAP: Final = 14.0
ROOM: Final = 110.0
"""Pixels between two neighbours, about."""

Box = tuple[float, float, float, float]
"""The middle (x, y), and width and height, in pixels."""


def placed(drawing: Drawing, sizes: Mapping[Key, tuple[float, float]]) -> dict[Key, Box]:
    """The boxes of all nodes, of these sizes; none covers another. The same for the same drawing,
    with the middle one in the middle.
    """
    graph = nx.Graph()
    graph.add_nodes_from(it.key for it in drawing.dots)
    for line in drawing.lines:
        graph.add_edge(line.source, line.target, weight=0.3 + line.weight)
    if not graph:
        return {}
    keys = list(graph)
    spread = ROOM * sqrt(len(keys))
    found = nx.spring_layout(
        graph,
        pos=_rings(drawing),
        fixed=None,
        k=1.6 / sqrt(len(keys)),
        iterations=ROUNDS,
        seed=SEED,
        method="force",  # the other one needs a library more
    )
    points = np.array([found[key] for key in keys]) * spread
    points -= points[keys.index(drawing.middle)] if drawing.middle in graph else 0
    apart = _apart(points, np.array([sizes[key] for key in keys]))
    return {key: (float(x), float(y), *sizes[key]) for key, (x, y) in zip(keys, apart, strict=True)}


def _rings(drawing: Drawing) -> dict[Key, tuple[float, float]]:
    """Where the springs begin: each ring of nodes evenly around the middle."""
    rings: dict[int, list[Key]] = {}
    for dot in drawing.dots:
        rings.setdefault(dot.hops, []).append(dot.key)
    return {
        key: (hops * cos(turn), hops * sin(turn))
        for hops, keys in rings.items()
        for number, key in enumerate(keys)
        for turn in [2 * pi * (number + hops / 2) / len(keys)]
    }


def _apart(
    points: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The points, moved until no two boxes touch: each pair along the way that is shorter."""
    count = len(points)
    # Two at one place would never part.
    points = points + np.arange(count)[:, None] * [0.01, 0.017]
    least = (sizes[:, None, :] + sizes[None, :, :]) / 2 + GAP
    for _ in range(4 * ROUNDS):
        away = points[:, None, :] - points[None, :, :]
        over = least - np.abs(away)
        over[np.arange(count), np.arange(count)] = 0
        touching: npt.NDArray[np.bool_] = np.all(over > 1e-6, axis=2)
        if not touching.any():
            break
        across = over[..., 0] < over[..., 1]
        way = np.where(away >= 0, 1.0, -1.0)
        move = np.stack([over[..., 0] * across, over[..., 1] * ~across], axis=2)
        points = points + (move * way * touching.reshape(count, count, 1)).sum(axis=1) * 0.5
    return points


def bounds(boxes: Sequence[Box], margin: float) -> Box:
    """Left, top, width and height of what holds all boxes, with a margin around."""
    if not boxes:
        return (0.0, 0.0, 2 * margin, 2 * margin)
    left = min(x - w / 2 for x, _, w, _ in boxes) - margin
    top = min(y - h / 2 for _, y, _, h in boxes) - margin
    right = max(x + w / 2 for x, _, w, _ in boxes) + margin
    bottom = max(y + h / 2 for _, y, _, h in boxes) + margin
    return (left, top, right - left, bottom - top)


def on_border(box: Box, towards: tuple[Any, Any]) -> tuple[float, float]:
    """Where a line from the middle of `box` towards a point leaves it."""
    x, y, width, height = box
    away = (towards[0] - x, towards[1] - y)
    if away == (0, 0):
        return (x, y)
    shares = [half / abs(it) for half, it in zip((width / 2, height / 2), away, strict=True) if it]
    share = min(1.0, *shares)
    return (x + away[0] * share, y + away[1] * share)
