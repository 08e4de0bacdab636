"""PDF: the text of its pages, headings by its bookmarks. Scripts and actions are not run."""

from __future__ import annotations

import re
from typing import Any, Final

from pypdfium2 import PdfDocument, PdfiumError

from polyplane.domains.assistant.parsing.extract import (
    VALUE_MAX,
    Draft,
    Extract,
    Refused,
    shortened,
)

PAGES_MAX: Final = 10_000
BOOKMARKS_MAX: Final = 5_000
_HYPHEN: Final = re.compile("[\x02\ufffe\xad]\r?\n?")
"""How the library writes a hyphen at the end of a line."""
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_ACTIONS: Final = {
    b"/JavaScript": "scripts",
    b"/Launch": "programs to launch",
    b"/EmbeddedFile": "embedded files",
}


def read_pdf(content: bytes, characters_max: int) -> Extract:
    """What a PDF says. Raises Refused."""
    try:
        document = PdfDocument(content)
    except PdfiumError as error:
        if "password" in str(error).lower() or b"/Encrypt" in content[-2048:]:
            raise Refused("encrypted", "it needs a password") from error
        raise Refused("damaged", f"it cannot be opened: {str(error)[:150]}") from error
    with document:
        count = len(document)
        if count > PAGES_MAX:
            raise Refused("too_large", f"it has more than {PAGES_MAX:,} pages")
        draft, broken = Draft(characters_max), 0
        marks = _bookmarks(document)
        for index in range(count):
            try:
                text = _text(document, index)
            except PdfiumError:
                broken += 1
                continue
            draft.page(index + 1)
            for level, words in marks.get(index, ()):
                place = text.find(words)
                if place >= 0:
                    draft.block(text[:place])
                    text = text[place + len(words) :]
                draft.heading(level, words)
            draft.block(text)
        if broken and broken == count:
            raise Refused("damaged", "none of its pages can be read")
        extract = draft.done()
        _describe(extract, document, content)
    extract.metadata["pages"] = count
    if broken:
        extract.metadata["broken_pages"] = broken
    return extract


def _text(document: PdfDocument, index: int) -> str:
    page = document[index]
    try:
        words = page.get_textpage()
        try:
            text = str(words.get_text_range())
        finally:
            words.close()
    finally:
        page.close()
    return _CONTROL.sub("", _HYPHEN.sub("", text))


def _bookmarks(document: PdfDocument) -> dict[int, list[tuple[int, str]]]:
    """(Level, title) of bookmarks by the index of their page."""
    found: dict[int, list[tuple[int, str]]] = {}
    for count, mark in enumerate(document.get_toc(max_depth=6)):
        if count >= BOOKMARKS_MAX:
            break
        target = mark.get_dest()
        index = target.get_index() if target is not None else None
        title = shortened(_CONTROL.sub("", mark.get_title()))
        if index is not None and index >= 0 and title:
            found.setdefault(index, []).append((mark.level + 1, title))
    return found


def _describe(extract: Extract, document: PdfDocument, content: bytes) -> None:
    said: dict[str, Any] = document.get_metadata_dict(skip_empty=True)
    extract.title = shortened(said.get("Title", ""))
    if not extract.title and extract.headings:
        extract.title = extract.headings[0][2]
    for name, key in (("Author", "author"), ("Subject", "subject"), ("CreationDate", "created")):
        if value := said.get(name):
            extract.metadata[key] = shortened(value, VALUE_MAX)
    if held := [name for sign, name in _ACTIONS.items() if sign in content]:
        extract.metadata["not_run"] = held
