"""ODT: paragraphs and headings, in order."""

from __future__ import annotations

from typing import Any, Final

from polyplane.domains.assistant.parsing.archives import content_of, opened, xml_of
from polyplane.domains.assistant.parsing.extract import (
    VALUE_MAX,
    Draft,
    Extract,
    Refused,
    shortened,
)

_TEXT: Final = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_OFFICE: Final = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_DC: Final = "{http://purl.org/dc/elements/1.1/}"
_SIGNS: Final = {f"{_TEXT}tab": "\t", f"{_TEXT}line-break": "\n", f"{_TEXT}s": " "}
_UNSEEN: Final = (f"{_TEXT}tracked-changes", f"{_OFFICE}annotation")


def read_odt(content: bytes, characters_max: int) -> Extract:
    """What an ODT file holds. Raises Refused."""
    with opened(content) as archive:
        if b"encryption-data" in (content_of(archive, "META-INF/manifest.xml") or b""):
            raise Refused("encrypted", "it needs a password")
        body, said = content_of(archive, "content.xml"), content_of(archive, "meta.xml")
    if body is None:
        raise Refused("damaged", "it has no content.xml")
    draft, root = Draft(characters_max), xml_of(body)
    for unseen in [*root.iter(*_UNSEEN)]:
        if unseen.getparent() is not None:
            unseen.clear(keep_tail=True)
    for element in root.iter(f"{_TEXT}h", f"{_TEXT}p"):
        words = "".join(_words(element))
        if element.tag == f"{_TEXT}h":
            level = element.get(f"{_TEXT}outline-level", "1")
            draft.heading(int(level[:2]) if level.isdecimal() else 1, words)
        else:
            draft.block(words)
    extract = draft.done()
    extract.title = extract.headings[0][2] if extract.headings else ""
    if said is not None:
        _describe(extract, xml_of(said))
    return extract


def _words(element: Any) -> list[str]:
    """The text of a paragraph; one within it (in a note, a frame) comes by itself."""
    words, waiting = [], [(element, False)]
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            words.append(node.tail or "")
            continue
        if node is not element:
            waiting.append((node, True))
            if node.tag in (f"{_TEXT}h", f"{_TEXT}p"):
                continue
        words.append(_SIGNS.get(node.tag, node.text or ""))
        waiting += [(child, False) for child in reversed(node)]
    return words


def _describe(extract: Extract, root: Any) -> None:
    title = root.find(f".//{_DC}title")
    if title is not None and title.text:
        extract.title = shortened(title.text)
    for name in ("creator", "subject", "language"):
        found = root.find(f".//{_DC}{name}")
        if found is not None and found.text:
            extract.metadata["author" if name == "creator" else name] = shortened(
                found.text, VALUE_MAX
            )
