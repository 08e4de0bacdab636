"""What is read of each kind of file, and how it is told."""

from __future__ import annotations

import pytest

from polyplane.domains.assistant.parsing.parsed import ChunkOptions, Limits, Parsed, Unreadable
from polyplane.domains.assistant.parsing.reading import read_one
from polyplane.domains.assistant.parsing.wire import LENGTH, Garbled, answer_of, result_of
from tests.hostile import forms
from tests.hostile.__main__ import is_whole

FILES = forms.good()
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
TYPES = {
    "page.md": "text/markdown",
    "page.html": "text/html",
    "relay.py": "text/x-python",
    "page.rtf": "application/rtf",
    "page.docx": WORD,
    "page.odt": "application/vnd.oasis.opendocument.text",
    "page.epub": "application/epub+zip",
    "letter.eml": "message/rfc822",
    "page.pdf": "application/pdf",
    "page.txt": "text/plain",
    "page.rst": "text/x-rst",
    "table.csv": "text/csv",
    "rows.json": "application/json",
}


def read(name: str, content: bytes | str, media_type: str | None = None) -> Parsed | Unreadable:
    raw = content.encode() if isinstance(content, str) else content
    return read_one(name, media_type, raw, ChunkOptions(), Limits())


def parsed(name: str, content: bytes | str, media_type: str | None = None) -> tuple[Parsed, str]:
    found = read(name, content, media_type)
    assert isinstance(found, Parsed), found
    assert is_whole(found)
    return found, "".join(it.text for it in found.chunks)


@pytest.mark.parametrize("name", TYPES)
def test_every_kind_is_read(name: str) -> None:
    found, _ = parsed(name, FILES[name])
    assert found.media_type == TYPES[name]
    assert found.title
    # It comes through the pipe as it was.
    body = answer_of(found)[LENGTH.size :]
    assert result_of(body) == found


def test_html_is_what_is_seen() -> None:
    found, text = parsed("page.html", FILES["page.html"])
    assert found.title == "The data plane"
    assert "Truth\n\n" in text
    assert "- one\n\n- two" in text
    assert "a | b" in text
    assert not [it for it in ("alert", "never", ".hidden", "menu", "<") if it in text]
    small = read_one("page.html", None, FILES["page.html"], ChunkOptions(300), Limits())
    assert isinstance(small, Parsed)
    assert {it.heading for it in small.chunks} == {("Truth",), ("Truth", "Relay")}


def test_word_keeps_headings_and_tables() -> None:
    found, text = parsed("page.docx", FILES["page.docx"])
    assert found.title == "The data plane"
    assert text.startswith("Truth\n\nThe relay")
    assert "Relay\n\none\n\ntwo\n\nThe relay" in text


def test_pdf_keeps_pages_and_says_what_is_not_run() -> None:
    content = forms.pdf(["One " * 150, "Two " * 150], catalog="/OpenAction<</S/JavaScript/JS(a)>>")
    found, _ = parsed("page.pdf", content)
    assert {it.page for it in found.chunks} == {1, 2}
    assert found.metadata["pages"] == 2
    assert found.metadata["not_run"] == ["scripts"]


def test_bookmarks_are_headings() -> None:
    marks = "90 0 obj<</First 91 0 R/Last 91 0 R/Count 1>>endobj\n"
    marks += "91 0 obj<</Title(Relay)/Parent 90 0 R/Dest[6 0 R/Fit]>>endobj\n"
    # The objects' places are those of the file, wherever they stand.
    content = forms.pdf(extra=marks, catalog="/Outlines 90 0 R").replace(b"startxref", b"startxxxx")
    found, _ = parsed("page.pdf", content)
    assert found.title == "Relay"


def test_mail_keeps_what_was_written_and_names_what_is_attached() -> None:
    found, text = parsed("letter.eml", forms.mail(2))
    assert found.title == "Fwd"
    assert "Größe" in text
    assert "Ärger." in text
    assert "From: ada@example.org" in text
    assert "alert" not in text
    _, text = parsed("letter.eml", FILES["letter.eml"])
    assert "Attachment: ../../thing.bin (application/x-thing, 100 bytes)" in text


def test_book_keeps_the_order_of_its_pages() -> None:
    found, text = parsed("page.epub", FILES["page.epub"])
    assert found.title == "The data plane"
    assert text.index("Truth") < text.index("Repair")
    assert "never" not in text


def test_tables_tell_their_columns() -> None:
    assert parsed("table.csv", FILES["table.csv"])[0].metadata["columns"] == ["name", "size"]


@pytest.mark.parametrize(
    ("content", "metadata"),
    [
        ("Größe".encode("latin-1") * 40, "encoding"),
        ("Größe ".encode() * 40 + b"\xff", "replaced"),
        (("Größe " * 40).encode("utf-16"), "encoding"),
        (b"text \0 " * 1 + b"text " * 99, "replaced"),
    ],
)
def test_encodings_are_told(content: bytes, metadata: str) -> None:
    found, text = parsed("page.txt", content)
    assert metadata in found.metadata
    assert "Größe" in text or "text \ufffd" in text


def test_lines_end_in_one_way_and_turns_are_told() -> None:
    found, text = parsed("page.txt", "one\r\ntwo\rthree \u202eevil\u202c\n")
    assert text.startswith("one\ntwo\nthree \u202eevil")
    assert found.metadata["direction_signs"] == 2


def test_what_it_is_counts_more_than_what_is_said() -> None:
    found, _ = parsed("page.txt", FILES["page.pdf"], "text/plain")
    assert found.media_type == "application/pdf"
    assert found.metadata["declared_media_type"] == "text/plain"
    assert parsed("page", FILES["page.html"])[0].media_type == "text/html"
    assert (
        parsed("page", FILES["page.md"], "text/markdown; charset=utf-8")[0].media_type
        == TYPES["page.md"]
    )
    assert parsed("letter", FILES["letter.eml"])[0].media_type == "message/rfc822"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"code":"no such","reason":"a"}',
        b'{"code":"empty","reason":1}',
        b'{"media_type":"a","title":"b","metadata":{},"text":"abc","paths":[[]],"chunks":[[0,2,0,0]]}',
        b'{"media_type":"a","title":"b","metadata":{},"text":"abc","paths":[[]],"chunks":[[0,3,1,0]]}',
        b'{"media_type":"a","title":"b","metadata":{},"text":"abc","paths":[[]],"chunks":[[-1,3,0,0]]}',
        b'{"media_type":"a","title":"b","metadata":[],"text":"abc","paths":[[]],"chunks":[[0,3,0,0]]}',
        b'{"media_type":"a","title":1,"metadata":{},"text":"abc","paths":[[]],"chunks":[[0,3,0,0]]}',
        b'{"media_type":"a","title":"b","metadata":{},"text":"a\\u0000c","paths":[[]],"chunks":[[0,3,0,0]]}',
        b'{"media_type":"a","title":"b","metadata":{"a":"\\u0000"},"text":"abc","paths":[[]],"chunks":[[0,3,0,0]]}',
    ],
)
def test_what_no_child_says_is_not_taken(body: bytes) -> None:
    with pytest.raises(Garbled):
        result_of(body)
