"""What a file is: by its first bytes, then by its name and by what is said of it. Pure."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final, Literal, NamedTuple

from polyplane.domains.assistant.parsing.decoding import SAMPLE_BYTES, has_mark
from polyplane.domains.assistant.parsing.extract import Refused

# In full, for those who look for what is used.
_RECORDS: Final = "polyplane.domains.assistant.parsing.plain:read_records"
_TABLE: Final = "polyplane.domains.assistant.parsing.plain:read_table"
_PLAIN: Final = "polyplane.domains.assistant.parsing.plain:read_text"
_SOURCE: Final = "polyplane.domains.assistant.parsing.code:read_code"
_MARKDOWN: Final = "polyplane.domains.assistant.parsing.markdown:read_markdown"


class Kind(NamedTuple):
    """A kind of document that is read, by the function `reader` of this room. It takes the bytes
    or the text; of bytes and of a page also how much text it may give.
    """

    media_type: str
    reader: str
    form: Literal["bytes", "text", "page"]


TEXT: Final = Kind("text/plain", _PLAIN, "text")
HTML: Final = Kind("text/html", "polyplane.domains.assistant.parsing.hypertext:read_html", "page")
MAIL: Final = Kind("message/rfc822", "polyplane.domains.assistant.parsing.mail:read_mail", "bytes")
PDF: Final = Kind("application/pdf", "polyplane.domains.assistant.parsing.pdf:read_pdf", "bytes")
RTF: Final = Kind(
    "application/rtf", "polyplane.domains.assistant.parsing.rich_text:read_rtf", "bytes"
)
_OFFICE: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
DOCX: Final = Kind(_OFFICE, "polyplane.domains.assistant.parsing.word:read_docx", "bytes")
_OPEN: Final = "application/vnd.oasis.opendocument.text"
ODT: Final = Kind(_OPEN, "polyplane.domains.assistant.parsing.opendocument:read_odt", "bytes")
EPUB: Final = Kind(
    "application/epub+zip", "polyplane.domains.assistant.parsing.book:read_epub", "bytes"
)


def _text(media_type: str, reader: str = _RECORDS) -> Kind:
    return Kind(media_type, reader, "text")


MARKDOWN: Final = _text("text/markdown", _MARKDOWN)
_CODE: Final = {
    "text/x-python": ".py .pyi .pyw",
    "text/javascript": ".js .mjs .cjs .jsx",
    "text/x-typescript": ".ts .tsx .mts .cts",
    "text/x-c": ".c .h",
    "text/x-c++": ".cc .cpp .cxx .hh .hpp .hxx",
    "text/x-java": ".java",
    "text/x-kotlin": ".kt .kts",
    "text/x-go": ".go",
    "text/x-rust": ".rs",
    "text/x-ruby": ".rb",
    "text/x-php": ".php",
    "text/x-csharp": ".cs",
    "text/x-swift": ".swift",
    "text/x-scala": ".scala",
    "text/x-shellscript": ".sh .bash .zsh",
    "text/x-perl": ".pl .pm",
    "text/x-lua": ".lua",
    "text/x-r": ".r",
    "text/x-haskell": ".hs",
    "application/sql": ".sql",
    "text/css": ".css .scss .less",
}
_KINDS: Final = [
    *(_text(it, _SOURCE) for it in _CODE),
    TEXT,
    HTML,
    MAIL,
    MARKDOWN,
    _text("text/x-rst", _PLAIN),
    _text("text/csv", _TABLE),
    _text("text/tab-separated-values", _TABLE),
    *map(_text, ("application/json", "application/x-ndjson", "application/yaml")),
    *map(_text, ("application/toml", "application/xml")),
]
_BY_TYPE: Final = {it.media_type: it for it in _KINDS} | {
    "application/xhtml+xml": HTML,
    "text/x-markdown": MARKDOWN,
    "text/xml": next(it for it in _KINDS if it.media_type == "application/xml"),
}
_SUFFIXES: Final = {
    **{suffix: it for it, suffixes in _CODE.items() for suffix in suffixes.split()},
    **dict.fromkeys((".txt", ".text", ".log", ".asc"), "text/plain"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "text/html"),
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd"), "text/markdown"),
    **dict.fromkeys((".yaml", ".yml"), "application/yaml"),
    **dict.fromkeys((".jsonl", ".ndjson"), "application/x-ndjson"),
    ".eml": "message/rfc822",
    ".rst": "text/x-rst",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".json": "application/json",
    ".toml": "application/toml",
    ".xml": "application/xml",
}

_HTML: Final = re.compile(
    rb"\s*(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html[\s>])", re.I | re.S
)
_MAIL: Final = re.compile(
    rb"(?:From |(?:From|Received|Return-Path|Delivered-To|Message-ID|MIME-Version|Date|Subject)"
    rb":[ \t])"
)
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PACKAGE: Final = "EncryptedPackage".encode("utf-16-le")
_OTHERS: Final = (
    (b"xl/workbook", "a workbook of a spreadsheet"),
    (b"ppt/presentation", "a presentation"),
    (b"mimetypeapplication/vnd.oasis.opendocument", "a file of an office program that is no text"),
    (b"META-INF/MANIFEST.MF", "a program for Java"),
)


def kind_of(name: str, media_type: str | None, content: bytes) -> Kind:
    """The kind of a file. Its bytes count more than its name, and that more than `media_type`.

    Raises Refused for what is not read.
    """
    if b"%PDF-" in content[:1024]:
        return PDF
    if content.startswith(b"PK\x03\x04"):
        return _archived(content)
    if content.startswith(b"{\\rtf"):
        return RTF
    if content.startswith(_OLE):
        if _PACKAGE in content:
            raise Refused("encrypted", "it needs a password")
        raise Refused("unsupported", "a file of an old office program")
    if not has_mark(content):
        _check_foreign(name, content)
    named = _SUFFIXES.get(PurePath(name).suffix.lower())
    said = (media_type or "").partition(";")[0].strip().lower()
    for known in (named, said):
        if known in _BY_TYPE and known != "text/plain":
            return _BY_TYPE[known]
    if _HTML.match(content):
        return HTML
    if named is None and _MAIL.match(content):
        return MAIL
    return TEXT


def _archived(content: bytes) -> Kind:
    # Names stand in clear in an archive, whatever is compressed in it.
    if b"mimetypeapplication/epub+zip" in content[:200]:
        return EPUB
    if b"mimetype" + _OPEN.encode() in content[:200]:
        return ODT
    if b"word/document" in content:
        return DOCX
    if b"META-INF/container.xml" in content:
        return EPUB
    what = next((words for sign, words in _OTHERS if sign in content), "an archive of files")
    raise Refused("unsupported", what)


def _check_foreign(name: str, content: bytes) -> None:
    """Raises Refused for a format that is known and is no text."""
    sample = content[:SAMPLE_BYTES]
    if b"\0" not in sample and (sample.isascii() or _is_utf8(sample)):
        return
    import puremagic

    try:
        found = puremagic.from_string(sample, mime=True)
    except (puremagic.PureError, ValueError, IndexError):
        return
    if found and not found.startswith("text/") and b"\0" in sample:
        raise Refused("unsupported", f"it is {found}")


def _is_utf8(sample: bytes) -> bool:
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.start > len(sample) - 4  # cut within a character
    return True
