"""DOCX: paragraphs, headings by their style's level, tables row by row, footnotes."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

import docx
from docx.opc.exceptions import PackageNotFoundError
from docx.oxml.ns import qn

from polyplane.domains.assistant.parsing.archives import content_of, opened, xml_of
from polyplane.domains.assistant.parsing.extract import (
    ITEM,
    PARAGRAPH,
    VALUE_MAX,
    Draft,
    Extract,
    Refused,
    shortened,
)

_PARTS: Final = ("[Content_Types].xml", "word/document.xml", "word/styles.xml")
_NESTED_MAX: Final = 20
_P, _TBL, _SDT, _CONTENT = (qn(f"w:{it}") for it in ("p", "tbl", "sdt", "sdtContent"))


def read_docx(content: bytes, characters_max: int) -> Extract:
    """What a DOCX file holds. Raises Refused."""
    with opened(content) as archive:
        for part in _PARTS:  # before the library does it with less care
            if (found := content_of(archive, part)) is not None:
                xml_of(found)
        notes = content_of(archive, "word/footnotes.xml")
    try:
        document = docx.Document(BytesIO(content))
    except (PackageNotFoundError, KeyError, ValueError, AttributeError) as error:
        raise Refused("damaged", f"parts of it are missing or wrong: {str(error)[:150]}") from error
    draft, levels = Draft(characters_max), _levels(document)
    for element in _blocks(document.element.body):
        if element.tag == _TBL:
            _add_table(draft, element)
        elif level := levels.get(element.style or ""):
            draft.heading(level, element.text)
        else:
            draft.block(element.text)
    if notes:
        for note in xml_of(notes).iter(qn("w:footnote")):
            draft.block("".join(note.itertext(qn("w:t"))))
    extract = draft.done()
    said = document.core_properties
    extract.title = shortened(said.title or "") or (
        extract.headings[0][2] if extract.headings else ""
    )
    for name in ("author", "subject", "keywords"):
        if value := getattr(said, name):
            extract.metadata[name] = shortened(value, VALUE_MAX)
    return extract


def _levels(document: Any) -> dict[str, int]:
    """The level of headings by the id of their style; a title's is that of the outermost."""
    levels = {}
    for style in document.styles:
        name = (style.name or "").lower()
        if name == "title":
            levels[style.style_id] = 1
        elif name.startswith("heading ") and name[8:].isdecimal():
            levels[style.style_id] = int(name[8:9])
    return levels


def _blocks(parent: Any, depth: int = 0) -> Iterator[Any]:
    """Paragraphs and tables, those in content controls too."""
    for element in parent.iterchildren(_P, _TBL, _SDT):
        if element.tag != _SDT:
            yield element
        elif (inner := element.find(_CONTENT)) is not None and depth < _NESTED_MAX:
            yield from _blocks(inner, depth + 1)


def _add_table(draft: Draft, table: Any) -> None:
    strength = PARAGRAPH
    for row in table.tr_lst:
        cells = (" ".join(it.text for it in cell.iter(_P) if it.text) for cell in row.tc_lst)
        draft.block(" | ".join(it for it in cells if it), strength)
        strength = ITEM
