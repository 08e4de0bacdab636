"""EPUB: the pages of its spine, in order, each read as HTML."""

from __future__ import annotations

import posixpath
from typing import Any, Final
from urllib.parse import unquote
from zipfile import ZipFile

from polyplane.domains.assistant.parsing.archives import content_of, opened, xml_of
from polyplane.domains.assistant.parsing.decoding import decoded
from polyplane.domains.assistant.parsing.extract import (
    VALUE_MAX,
    Draft,
    Extract,
    Refused,
    shortened,
)
from polyplane.domains.assistant.parsing.hypertext import add_html

PARTS_MAX: Final = 5_000
_OPF: Final = "{http://www.idpf.org/2007/opf}"
_DC: Final = "{http://purl.org/dc/elements/1.1/}"
_CONTAINER: Final = "{urn:oasis:names:tc:opendocument:xmlns:container}"


def read_epub(content: bytes, characters_max: int) -> Extract:
    """What an EPUB holds. Raises Refused."""
    draft = Draft(characters_max)
    with opened(content) as archive:
        path, package = _package(archive)
        locked = content_of(archive, "META-INF/encryption.xml") or b""
        for name in _spine(path, package):
            if name.encode() in locked:
                raise Refused("encrypted", "its pages are encrypted")
            if (page := content_of(archive, name)) is not None:
                add_html(draft, decoded(page)[0])
    extract = draft.done()
    extract.title = _said(package, "title") or (extract.headings[0][2] if extract.headings else "")
    for name, key in (("creator", "author"), ("language", "language"), ("publisher", "publisher")):
        if value := _said(package, name):
            extract.metadata[key] = value
    return extract


def _package(archive: ZipFile) -> tuple[str, Any]:
    """Where the package document is, and its root."""
    container = content_of(archive, "META-INF/container.xml")
    if container is not None:
        found = xml_of(container).find(f".//{_CONTAINER}rootfile")
        path = found.get("full-path", "") if found is not None else ""
        if (package := content_of(archive, path)) is not None:
            return path, xml_of(package)
    raise Refused("damaged", "it names no package document")


def _spine(path: str, package: Any) -> list[str]:
    """The names of the pages, in the order they are read."""
    places = {it.get("id"): it.get("href", "") for it in package.iter(f"{_OPF}item")}
    named = (places.get(it.get("idref"), "") for it in package.iter(f"{_OPF}itemref"))
    folder = posixpath.dirname(path)
    names = [posixpath.normpath(posixpath.join(folder, unquote(it))) for it in named if it]
    if len(names) > PARTS_MAX or len(set(names)) < len(names):
        raise Refused("bomb", "its pages are too many, or come more than once")
    return names


def _said(package: Any, name: str) -> str:
    found = package.find(f".//{_DC}{name}")
    return shortened(found.text or "", VALUE_MAX) if found is not None else ""
