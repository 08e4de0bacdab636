"""The picture itself: SVG that stands alone, or a page of HTML around it. No script in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from polyplane.serve.picture.choice import Dot, Drawing, Key, Line
from polyplane.serve.picture.layout import Box, bounds, on_border, placed

LETTER: Final = 7.4
HEIGHT: Final = 26.0
MARGIN: Final = 40.0
LEGEND: Final = 22.0
NAMED_LINES_MAX: Final = 60
"""More lines than that are not named: one can point at them."""

COLOURS: Final = ("#2b6cb0", "#b7791f", "#2f855a", "#9b2c2c", "#6b46c1", "#086f83", "#97266d")
FILLS: Final = ("#ebf4ff", "#fffbea", "#f0fff4", "#fff5f5", "#faf5ff", "#e6fffa", "#fff5f7")
_FONT: Final = "system-ui, sans-serif"
_NO_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def svg_of(drawing: Drawing, title: str) -> str:
    """The drawing as SVG."""
    boxes = placed(drawing, {it.key: size_of(it) for it in drawing.dots})
    labels = _coloured([it.key[0] for it in drawing.dots])
    kinds = _coloured([kind for line in drawing.lines for kind in line.types])
    left, top, width, height = bounds(list(boxes.values()), MARGIN)
    rows = [*labels, *(f"— {it}" for it in kinds), *_left_out(drawing)]
    width = max(width, 2 * MARGIN + LETTER * max(map(len, [title, *rows])))
    legend = LEGEND * (len(rows) + 2)
    view = f"{left:.1f} {top:.1f} {width:.1f} {height + legend:.1f}"
    size = {"width": f"{width:.0f}", "height": f"{height + legend:.0f}"}
    root = Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=view, role="img", attrib=size)
    SubElement(root, "title").text = _safe(title)
    _frame(root, (left, top, width, height + legend))
    _arrows(root, kinds)
    for line in drawing.lines:
        _draw_line(root, line, boxes, kinds, len(drawing.lines) <= NAMED_LINES_MAX)
    for dot in drawing.dots:
        _draw_dot(root, dot, boxes[dot.key], labels[dot.key[0]], dot.key == drawing.middle)
    _legend(root, (left + MARGIN, top + height), title, labels, kinds, _left_out(drawing))
    return tostring(root, encoding="unicode")


def page_of(drawing: Drawing, title: str) -> str:
    """A page of HTML with the drawing, and its lines as a table."""
    names = {it.key: it.caption for it in drawing.dots}
    rows = "\n".join(
        f"<tr><td>{_html(names[it.source])}</td><td>{_arrow(it)} {_html(', '.join(it.types))}</td>"
        f"<td>{_html(names[it.target])}</td><td>{it.weight:.2f}</td></tr>"
        for it in sorted(drawing.lines, key=lambda it: (-it.weight, it.source, it.target))
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{_html(title)}</title>
<style>
body {{ font-family: {_FONT}; margin: 1.5rem; color: #1a202c; }}
svg {{ max-width: 100%; height: auto; border: 1px solid #e2e8f0; }}
td {{ padding: 0.15rem 1rem 0.15rem 0; vertical-align: top; }}
</style>
</head>
<body>
{svg_of(drawing, title)}
<table>
{rows}
</table>
</body>
</html>
"""


def size_of(dot: Dot) -> tuple[float, float]:
    """Width and height of a node's box: its caption fits."""
    return (LETTER * len(dot.caption) + 20, HEIGHT)


def _draw_dot(root: Element, dot: Dot, box: Box, colour: int, is_middle: bool) -> None:
    x, y, width, height = box
    group = SubElement(root, "g")
    SubElement(group, "title").text = _safe(dot.told)
    SubElement(
        group,
        "rect",
        x=f"{x - width / 2:.1f}",
        y=f"{y - height / 2:.1f}",
        width=f"{width:.1f}",
        height=f"{height:.1f}",
        rx="6",
        fill=FILLS[colour],
        stroke=COLOURS[colour],
        attrib={"stroke-width": "3" if is_middle else "1.2"},
    )
    weight = "700" if is_middle else "400"
    _text(group, (x, y + 4.5), dot.caption, "#1a202c", anchor="middle", weight=weight)


def _draw_line(
    root: Element,
    line: Line,
    boxes: Mapping[Key, Box],
    kinds: Mapping[str, int],
    is_named: bool,
) -> None:
    one, other = boxes[line.source], boxes[line.target]
    x1, y1 = on_border(one, other[:2])
    x2, y2 = on_border(other, one[:2])
    colour = kinds[line.types[0]]
    drawn = {"stroke-width": f"{0.8 + 2.4 * line.weight:.2f}", "stroke-opacity": "0.75"}
    if line.is_forward:
        drawn["marker-end"] = f"url(#arrow{colour})"
    if line.is_backward:
        drawn["marker-start"] = f"url(#arrow{colour})"
    group = SubElement(root, "g")
    SubElement(group, "title").text = _safe(line.told)
    ends = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    SubElement(group, "line", attrib=ends | drawn, stroke=COLOURS[colour])
    if is_named:
        middle = ((x1 + x2) / 2, (y1 + y2) / 2 - 3)
        _text(group, middle, ", ".join(line.types), COLOURS[colour], anchor="middle", size=10)


def _arrows(root: Element, kinds: Mapping[str, int]) -> None:
    defs = SubElement(root, "defs")
    for colour in sorted(set(kinds.values())):
        marker = SubElement(
            defs,
            "marker",
            id=f"arrow{colour}",
            viewBox="0 0 10 10",
            refX="9",
            refY="5",
            markerWidth="9",
            markerHeight="9",
            markerUnits="userSpaceOnUse",
            orient="auto-start-reverse",
        )
        SubElement(marker, "path", d="M 0 1 L 10 5 L 0 9 z", fill=COLOURS[colour])


def _frame(root: Element, box: Box) -> None:
    left, top, width, height = (f"{it:.1f}" for it in box)
    SubElement(root, "rect", x=left, y=top, width=width, height=height, fill="#ffffff")


def _legend(
    root: Element,
    corner: tuple[float, float],
    title: str,
    labels: Mapping[str, int],
    kinds: Mapping[str, int],
    left_out: list[str],
) -> None:
    x, y = corner
    _text(root, (x, y), title, "#1a202c", weight="700")
    rows = [(it, COLOURS[colour]) for it, colour in labels.items()]
    rows += [(f"— {it}", COLOURS[colour]) for it, colour in kinds.items()]
    rows += [(it, "#4a5568") for it in left_out]
    for number, (told, colour) in enumerate(rows, start=1):
        _text(root, (x, y + LEGEND * number), told, colour)


def _left_out(drawing: Drawing) -> list[str]:
    if not drawing.left_out:
        return []
    more = f"{drawing.left_out:,} more{' at least' if drawing.truncated else ''}"
    return [f"{more} are near it and not drawn"]


def _text(
    root: Element,
    at: tuple[float, float],
    words: str,
    colour: str,
    *,
    anchor: str = "start",
    weight: str = "400",
    size: int = 13,
) -> None:
    text = SubElement(root, "text", x=f"{at[0]:.1f}", y=f"{at[1]:.1f}", fill=colour)
    text.set("font-family", _FONT)
    text.set("font-size", str(size))
    text.set("font-weight", weight)
    text.set("text-anchor", anchor)
    if size < 13:  # on lines: they stay legible over them
        text.set("paint-order", "stroke")
        text.set("stroke", "#ffffff")
        text.set("stroke-width", "3")
    text.text = _safe(words)


def _coloured(names: list[str]) -> dict[str, int]:
    """Name -> number of its colour, in the order of the names."""
    return {name: number % len(COLOURS) for number, name in enumerate(sorted(set(names)))}


def _arrow(line: Line) -> str:
    return {(True, True): "↔", (True, False): "→"}.get((line.is_forward, line.is_backward), "←")


def _safe(text: str) -> str:
    """What XML can hold of a text."""
    return _NO_XML.sub("\ufffd", text)


def _html(text: str) -> str:
    return escape(_safe(text))
