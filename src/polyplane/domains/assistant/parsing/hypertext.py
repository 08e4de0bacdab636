"""HTML: what a reader sees of it. Nothing is fetched and nothing is run."""

from __future__ import annotations

import re
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from polyplane.domains.assistant.parsing.extract import (
    ITEM,
    PARAGRAPH,
    Draft,
    Extract,
    Refused,
    shortened,
)

DEPTH_MAX: Final = 500
"""Browsers go no deeper; a parser's time grows by the square of it."""
TAGS_MAX: Final = 500_000

_UNSEEN: Final = frozenset(
    {
        "script",
        "style",
        "noscript",
        "template",
        "head",
        "iframe",
        "object",
        "embed",
        "applet",
        "svg",
    }
    | {"math", "canvas", "audio", "video", "select", "datalist", "dialog", "frameset", "map", "nav"}
)
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_ROWS: Final = frozenset({"tr", "td", "th", "thead", "tbody", "tfoot"})
_BLOCKS: Final = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details"}
    | {"div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr"}
    | {"html", "legend", "li", "main", "ol", "p", "pre", "section", "summary", "table", "ul"}
    | (_ROWS - {"td", "th"} | _HEADINGS.keys())
)
_ITEMS: Final = frozenset({"li", "tr", "dd", "dt"})
_LOOSE: Final = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track"}
    | {"wbr", "p", "li", "dt", "dd", "option", "optgroup", "colgroup", "rt", "rp", "html", "head"}
    | {"body", *_ROWS}
)
"""Elements that end by themselves."""
_TAG: Final = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]{0,30})")
_SPACE: Final = re.compile(r"[ \t\n\f\r]+")
_EMPTY: Final = re.compile(r"\n{3,}")


def read_html(text: str, characters_max: int) -> Extract:
    """What is seen of a page: no scripts, styles, navigation or hidden elements. Raises Refused."""
    draft = Draft(characters_max)
    title = add_html(draft, text)
    extract = draft.done()
    extract.title = title or (extract.headings[0][2] if extract.headings else "")
    return extract


def add_html(draft: Draft, text: str) -> str:
    """Add what is seen of a page to `draft`; the title it has."""
    _check(text)
    tree = LexborHTMLParser(text)
    head = tree.css_first("head > title")
    if tree.body is not None:
        _Walk(draft).go(tree.body)
    return shortened(head.text(deep=True)) if head is not None else ""


def _check(text: str) -> None:
    """Raises Refused for tags nested so deeply, or so many, that it would take for ever."""
    depth, count = 0, 0
    for match in _TAG.finditer(text):
        count += 1
        if match[2].lower() in _LOOSE:
            continue
        depth = max(depth - 1, 0) if match[1] else depth + 1
        if depth > DEPTH_MAX:
            raise Refused("too_deep", f"more than {DEPTH_MAX} elements in each other")
        if count > TAGS_MAX:
            raise Refused("too_large", f"it has more than {TAGS_MAX:,} tags")


class _Walk:
    """Goes through the elements in order, without recursion, and adds a block when one ends."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._words = list[str]()
        self._kinds = list[str]()
        """The blocks we are in, the innermost last."""
        self._pre = 0

    def go(self, root: LexborNode) -> None:
        node: LexborNode | None = root
        while node is not None:
            child = self._enter(node)
            if child is not None:
                node = child
                continue
            while node is not None:
                self._leave(node)
                if node.mem_id == root.mem_id:
                    return
                if (beside := node.next) is not None:
                    node = beside
                    break
                node = node.parent

    def _enter(self, node: LexborNode) -> LexborNode | None:
        """See a node; its first child, when what is in it is seen."""
        if node.is_text_node:
            self._words.append(node.text_content or "")
            return None
        tag = node.tag
        if tag is None or tag in _UNSEEN or not node.is_element_node or _is_hidden(node):
            return None
        if tag == "br":
            self._words.append("\n" if self._pre else "\v")
        elif tag in ("td", "th"):
            self._words.append("\t")
        elif tag == "img":
            self._words.append(f" {node.attributes.get('alt') or ''} ")
        elif tag in _BLOCKS:
            self._end()
            self._kinds.append(tag)
            self._pre += tag == "pre"
        return node.first_child

    def _leave(self, node: LexborNode) -> None:
        if self._kinds and node.tag == self._kinds[-1] and node.is_element_node:
            self._end()
            self._pre -= self._kinds.pop() == "pre"

    def _end(self) -> None:
        """Add the words since the last block ended, as a block of the kind we are in."""
        text, self._words = "".join(self._words), []
        if not text or text.isspace():
            return
        kind = self._kinds[-1] if self._kinds else ""
        if self._pre:
            self._draft.block(_EMPTY.sub("\n\n", text))
        elif kind in _HEADINGS:
            self._draft.heading(_HEADINGS[kind], text.replace("\v", " "))
        else:
            cells = (
                (_SPACE.sub(" ", it).strip() for it in re.split(r"([\t\v])", text))
                if kind == "tr"
                else None
            )
            seen = " | ".join(it for it in cells if it) if cells else _SPACE.sub(" ", text)
            seen = "\n".join(it.strip() for it in seen.split("\v"))
            self._draft.block(
                f"- {seen}" if kind == "li" else seen, ITEM if kind in _ITEMS else PARAGRAPH
            )


def _is_hidden(node: LexborNode) -> bool:
    seen = node.attrs
    if "hidden" in seen:
        return True
    style = seen.get("style")
    return style is not None and "display:none" in style.replace(" ", "").lower()
