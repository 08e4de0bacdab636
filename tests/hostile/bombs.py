"""Files made to do harm, each named for what it tries, with the failures that are right for it.

None is right when the file can be read all the same. `ANY`: whatever comes, it must be one of ours.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Final, NamedTuple

from tests.hostile import forms

ANY: Final = frozenset({"any"})
READ: Final = frozenset({"read"})


class Hostile(NamedTuple):
    """A file: its name, what it is said to be, its bytes, and what may come of it."""

    name: str
    media_type: str | None
    content: bytes
    right: frozenset[str]


def _one(name: str, content: bytes | str, *right: str, media_type: str | None = None) -> Hostile:
    raw = content.encode() if isinstance(content, str) else content
    return Hostile(name, media_type, raw, frozenset(right) or ANY)


def bombs() -> Iterator[Hostile]:
    """All of them."""
    yield from light()
    yield from _heavy()


def light() -> Iterator[Hostile]:
    """Those that are made in no time."""
    yield from _texts()
    yield from _pages()
    yield from _archives()
    yield from _documents()
    yield from _pdfs()
    yield from _mails()
    yield from _foreign()


def _texts() -> Iterator[Hostile]:
    words = forms.PARAGRAPH
    yield _one("empty.txt", b"", "empty")
    yield _one("spaces.md", " \n\t" * 5_000, "empty")
    yield _one("only_nul.txt", b"\0" * 4_096, "binary", "unsupported")
    yield _one("some_nul.txt", (words * 200).encode() + b"\0\0" + words.encode(), "read")
    yield _one("one_line.txt", "x" * 4_000_000, "read", "timeout")
    yield _one("one_line_of_words.md", "word " * 600_000, "read", "timeout")
    yield _one("too_long.txt", "ab " * 2_000_000, "too_large")
    yield _one("marks_on_marks.txt", "a" + "\u0301" * 300_000, "read")
    yield _one("turned.md", f"# \u202eeltit\u202c\n\n\u2067{words}\u2069", "read")
    yield _one("cut_character.txt", "größe ".encode() * 300 + b"\xc3", "read")
    yield _one("latin.txt", ("Größe ändert Öl. " * 99).encode("latin-1"), "read")
    yield _one("wide.txt", (words * 9).encode("utf-16"), "read")
    yield _one("wide_without_mark.txt", (words * 9).encode("utf-16-le"), "read")
    yield _one("wide_cut.txt", (words * 9).encode("utf-16")[:-1], "read")
    yield _one("wide_wrong.txt", b"\xff\xfe" + bytes(range(256)) * 64, "read", "binary")
    yield _one("halves.txt", b"\xff\xfe" + b"\x00\xd8" * 4_000, "binary", "damaged")
    yield _one("control.txt", bytes(range(1, 32)) * 900, "binary")
    yield _one("many_headings.md", "# a\n" * 300_000, "read", "timeout")
    yield _one("deep_quotes.md", ">" * 50_000 + " a", "read", "too_deep", "timeout")
    yield _one("deep_list.md", "".join(f"{'  ' * i}- a\n" for i in range(1_500)), "read")
    yield _one("open_brackets.md", "[" * 200_000, "read")
    yield _one("open_links.md", "[a](" * 100_000, "read")
    yield _one("backticks.md", "".join("`" * i + " " for i in range(1_500)), "read")
    yield _one("stars.md", "*a **b " * 100_000, "read", "timeout")
    yield _one("entities.md", "&" * 300_000, "read")
    yield _one("references.md", "[a]: b\n" * 50_000 + "[a]" * 50_000, "read")
    yield _one("table.md", "|" * 20_000 + "\n" + "|-" * 20_000 + "\n" + "|" * 20_000, "read")
    yield _one("front.md", "---\n" + "a: b\n" * 200_000, "read", "timeout")
    yield _one("deep.json", "[" * 1_000_000, "read")
    yield _one("deep.py", "(" * 500_000, "read")
    yield _one("deep_blocks.py", "".join(f"{' ' * i}if x:\n" for i in range(2_000)), "read")
    yield _one("wide.csv", "," * 3_000_000, "read")
    yield _one("open_quote.csv", '"' + "a\n" * 500_000, "read", "timeout")


def _pages() -> Iterator[Hostile]:
    words = forms.PARAGRAPH
    yield _one("deep.html", "<div>" * 200_000 + "x", "too_deep")
    yield _one("deep_bold.html", "<b>" * 100_000 + "x", "too_deep")
    yield _one("deep_tables.html", "<table><tr><td>" * 20_000 + "x", "too_deep")
    yield _one("many_rows.html", "<table>" + "<tr><td>a" * 100_000, "read", "timeout")
    yield _one("paragraphs.html", "<p>a" * 100_000, "read", "timeout")
    yield _one("attributes.html", f"<p {'a=b ' * 200_000}>{words}</p>", "read", "timeout")
    yield _one("one_attribute.html", f"<p a='{'x' * 3_000_000}'>{words}</p>", "read")
    yield _one("open_tag.html", "<html><p " + "a" * 2_000_000, "read", "no_text", "empty")
    yield _one("open_comment.html", "<html><!--" + "-" * 2_000_000, "no_text")
    yield _one("only_script.html", "<html><script>alert('never')</script></html>", "no_text")
    yield _one("script.html", f"<html><p>{words}<script>never()</script><p onclick='never()'>b")
    yield _one("entities.html", "<p>" + "&amp;" * 400_000, "read")
    yield _one("formatting.html", "<p><b><i><u><s>" * 5_000 + words, "read", "too_deep")
    yield _one("plaintext.html", f"<html><plaintext>{words}</html>", "read")
    yield _one("frameset.html", "<html><frameset><frame src='file:///etc/passwd'>", "no_text")
    yield _one("meta.html", b"<meta charset=base64><p>" + b"\xff\xe4 Gr\xf6\xdfe " * 99)
    yield _one("svg.html", f"<svg><script>never()</script></svg><p>{words}", "read")


def _archives() -> Iterator[Hostile]:
    bomb = {**forms.entries_of(forms.word()), "word/media/a.png": b"\0" * (9 << 20)}
    yield _one("small_bomb.docx", forms.archive(bomb), "bomb")
    many = {**forms.entries_of(forms.word())} | {f"a/{i}": b"" for i in range(11_000)}
    yield _one("many.docx", forms.archive(many), "bomb")
    yield _one("overlapping.docx", _overlapping(), "bomb", "damaged")
    yield _one("lying.docx", _lying(), "damaged", "bomb")
    outside = {
        **forms.entries_of(forms.word()),
        "../../../tmp/evil.txt": b"evil",
        "/etc/evil": b"e",
    }
    yield _one("outside.docx", forms.archive(outside), "read")
    yield _one("outside.epub", forms.epub({"../../../../etc/passwd": "<p>a"}), "read", "no_text")
    again = forms.archive({"mimetype": "application/epub+zip", "META-INF/container.xml": "<a"})
    yield _one("broken.epub", again, "damaged")
    yield _one(
        "no_content.odt", forms.archive({"mimetype": "application/vnd.oasis.opendocument.text"})
    )
    yield _one("locked.zip.docx", _flagged(forms.word()), "encrypted")
    yield _one("locked.odt", _locked_odt(), "encrypted")
    yield _one("book.xlsx", forms.archive({"xl/workbook.xml": "<a/>"}), "unsupported")
    yield _one("mark_only.zip", b"PK\x03\x04", "unsupported", "damaged")


def _heavy() -> Iterator[Hostile]:
    parts = forms.entries_of(forms.word())
    bomb = {**parts, "word/media/a.png": b"\0" * (64 << 20)}
    yield _one("bomb.docx", forms.archive(bomb), "bomb")
    yield _one("bomb.odt", forms.odt("<text:p>" + "a" * (30 << 20) + "</text:p>"), "bomb")
    yield _one("bomb.epub", forms.epub({"a.xhtml": "<p>" + "a " * (16 << 20)}), "bomb")
    yield _one("nested.zip", _nested(6), "unsupported")
    body = parts["word/document.xml"]
    root = body if isinstance(body, bytes) else body.encode()
    flat = b"<w:p><w:r><w:t>a</w:t></w:r></w:p>" * 150_000
    made = forms.archive(
        {**parts, "word/document.xml": root.replace(b"<w:body>", b"<w:body>" + flat)}
    )
    yield _one("many.docx", made, "read", "timeout", "memory", "bomb")
    yield _one("bomb.pdf", _pdf_of(zlib.compress(b"(a) Tj " * 20_000_000, 9)), *_HEAVY)
    twice = zlib.compress(zlib.compress(b"\0" * 400_000_000, 9), 9)
    yield _one("bomb_in_bomb.pdf", _pdf_of(twice, "[/FlateDecode/FlateDecode]"), *_HEAVY)


def _nested(depth: int) -> bytes:
    content = b"\0" * (10 << 20)
    for level in range(depth):
        content = forms.archive({f"{level}-{i}.zip": content for i in range(10)})
    return content


def _overlapping() -> bytes:
    """Every entry of the directory points at one and the same entry."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("word/document.xml", b"a" * 100_000)
        first = made.filelist[0]
        for i in range(500):
            info = zipfile.ZipInfo(f"word/{i}.xml")
            for name in ("CRC", "compress_size", "file_size", "header_offset", "compress_type"):
                setattr(info, name, getattr(first, name))
            made.filelist.append(info)
    return out.getvalue()


def _lying() -> bytes:
    """The directory says that what is in an entry is much less than it is."""
    content = bytearray(forms.archive({"word/document.xml": b"a" * (1 << 20)}))
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    return bytes(content)


def _flagged(content: bytes) -> bytes:
    raw, at = bytearray(content), 0
    while (at := raw.find(b"PK\x01\x02", at)) >= 0:
        raw[at + 8] |= 1
        at += 4
    return bytes(raw)


def _locked_odt() -> bytes:
    manifest = "<manifest><file-entry><encryption-data/></file-entry></manifest>"
    return forms.archive(
        forms.entries_of(forms.odt()) | {"META-INF/manifest.xml": manifest.encode()}
    )


LAUGHS: Final = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha">'
    + "".join(f'<!ENTITY b{i} "{f"&b{i - 1};" * 10 if i else "&b;" * 10}">' for i in range(10))
    + "]>"
)
OUTSIDE: Final = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'


def _documents() -> Iterator[Hostile]:
    yield _one("laughs.odt", forms.odt("<text:p>&b9;</text:p>", LAUGHS), "bomb", "damaged")
    yield _one("outside.odt", forms.odt("<text:p>&b;</text:p>", OUTSIDE), "bomb", "damaged")
    deep = forms.odt("<text:p>" * 5_000 + "a" + "</text:p>" * 5_000)
    yield _one("deep.odt", deep, "too_deep", "damaged")
    parts = forms.entries_of(forms.word())
    body = (
        bytes(parts["word/document.xml"]) if isinstance(parts["word/document.xml"], bytes) else b""
    )
    root = body[body.index(b"<w:document") :]
    for name, before in (("laughs", LAUGHS), ("outside", OUTSIDE)):
        made = forms.archive({**parts, "word/document.xml": before.encode() + root})
        yield _one(f"{name}.docx", made, "bomb", "damaged")
    yield _one("no_body.docx", forms.archive({**parts, "word/document.xml": b"<a/>"}), "damaged")
    yield _one("no_types.docx", forms.archive({"word/document.xml": root}), "damaged")
    nested = b"<w:tbl><w:tr><w:tc>" * 3_000
    made = forms.archive(
        {**parts, "word/document.xml": root.replace(b"<w:body>", b"<w:body>" + nested)}
    )
    yield _one("deep.docx", made, "too_deep", "damaged")
    yield _one("deep.rtf", "{\\rtf1 " + "{" * 200_000 + "a" + "}" * 200_001, "too_deep")
    yield _one("cut.rtf", "{\\rtf1 " + forms.PARAGRAPH, "damaged")
    yield _one("numbers.rtf", "{\\rtf1 " + "\\u99999999999 \\'zz\\bin99999999 " * 20_000 + "}")
    yield _one("pictures.rtf", "{\\rtf1 {\\pict " + "00" * 1_000_000 + "}}", "no_text")


def _pdfs() -> Iterator[Hostile]:
    yield _one("mark_only.pdf", b"%PDF-1.7", "damaged")
    yield _one("scanned.pdf", forms.pdf(["", ""]), "no_text")
    yield _one("no_pages.pdf", forms.pdf([]), "no_text", "damaged")
    looped = [b"1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"]
    looped.append(b"2 0 obj<</Type/Pages/Kids[2 0 R 2 0 R]/Count 5>>endobj\n")
    yield _one("looped.pdf", forms.finished_pdf(looped), "no_text", "damaged")
    endless = forms.pdf().replace(b"/Count 2", b"/Count 2147483647")
    yield _one("endless.pdf", endless, "too_large", "read", "damaged")
    yield _one(
        "script.pdf", forms.pdf(catalog="/OpenAction<</S/JavaScript/JS(app.alert(1))>>"), "read"
    )
    yield _one("launch.pdf", forms.pdf(catalog="/OpenAction<</S/Launch/F(/bin/sh)>>"), "read")
    locked = "/Encrypt<</Filter/Standard/V 1/R 2/O(" + "x" * 32 + ")/U(" + "y" * 32 + ")/P -4>>"
    objects = forms.pdf().split(b"trailer<<")
    yield _one("locked.pdf", objects[0] + b"trailer<<" + locked.encode() + objects[1], "encrypted")
    filters = "[" + "/ASCIIHexDecode" * 20_000 + "]"
    yield _one("filters.pdf", _pdf_of(b"00>", filters), *_HEAVY)
    yield _one("self_drawn.pdf", _self_drawn(), *_HEAVY)
    yield _one("deep.pdf", forms.pdf(extra="9 0 obj" + "[" * 200_000 + "endobj\n"), *_HEAVY)
    marks = "/Outlines 90 0 R"
    loop = "90 0 obj<</First 91 0 R/Last 91 0 R/Count 9>>endobj\n"
    loop += "91 0 obj<</Title(a)/Parent 90 0 R/Next 91 0 R/First 91 0 R>>endobj\n"
    yield _one("looped_marks.pdf", forms.pdf(extra=loop, catalog=marks), *_HEAVY)
    yield _one("later.pdf", b"x" * 900 + forms.pdf(), "read", "damaged")


_HEAVY: Final = ("read", "no_text", "damaged", "timeout", "memory", "crashed", "too_large", "bomb")


def _pdf_of(stream: bytes, filters: str = "/FlateDecode") -> bytes:
    page = "/Resources<</Font<</F1 3 0 R>>>>/MediaBox[0 0 612 792]"
    return forms.finished_pdf(
        [
            b"1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n",
            b"2 0 obj<</Type/Pages/Kids[4 0 R]/Count 1>>endobj\n",
            b"3 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\n",
            f"4 0 obj<</Type/Page/Parent 2 0 R/Contents 5 0 R{page}>>endobj\n".encode(),
            f"5 0 obj<</Length {len(stream)}/Filter{filters}>>stream\n".encode() + stream,
            b"\nendstream endobj\n",
        ]
    )


def _self_drawn() -> bytes:
    """A form that draws itself, ten times."""
    draws = b"/X Do " * 10
    form = b"6 0 obj<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 6 0 R>>>>"
    return forms.pdf().replace(
        b"xref\n",
        form + f"/Length {len(draws)}>>stream\n".encode() + draws + b"endstream endobj\nxref\n",
    )


def _mails() -> Iterator[Hostile]:
    yield _one("deep_in_deep.eml", forms.mail(12), "read")
    deep = "".join(
        f'Content-Type: multipart/mixed; boundary="b{i}"\n\n--b{i}\n' for i in range(1_000)
    )
    yield _one("deep.eml", f"From: a@example.org\n{deep}\ntext", "too_deep")
    within = "From: a@example.org\nContent-Type: message/rfc822\n\n" * 1_000
    yield _one("within.eml", within + "text", "too_deep")
    parts = "--b\nContent-Type: text/plain\n\na\n" * 20_000
    many = f'From: a@example.org\nContent-Type: multipart/mixed; boundary="b"\n\n{parts}--b--'
    yield _one("many_parts.eml", many, "too_large")
    yield _one(
        "long_header.eml", f"Subject: {'=?utf-8?q?a?= ' * 50_000}\n\ntext", "read", "timeout"
    )
    wide = ", ".join(f"a{i}@example.org" for i in range(20_000))
    yield _one("wide.eml", f"From: a@example.org\nTo: {wide}\n\ntext", "read")
    strange = (
        b'From: a@example.org\nContent-Type: text/plain; charset="no\\such"\n\n\xff\xfe\xfd text'
    )
    yield _one("strange_charset.eml", strange, "read", "binary", "damaged")
    name = "From: a@b\nContent-Type: x/y; name*0*=utf-8''%ff; name*99999999999=a\n\na"
    yield _one("strange_name.eml", name)
    yield _one("no_headers.eml", forms.PARAGRAPH, "damaged")
    yield _one("bytes.eml", b"From: \xff\xfe\x80 <a@b>\nSubject: \xe4\n\ntext", "read")


def _foreign() -> Iterator[Hostile]:
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0\1" * 400
    yield _one("picture.png", png, "unsupported", "binary")
    yield _one("picture.txt", png, "unsupported", "binary", media_type="text/plain")
    yield _one("program.md", b"\x7fELF\x02\x01\x01" + b"\0\3\x90" * 3_000, "unsupported", "binary")
    yield _one("page.pdf", forms.HTML, "read", media_type="application/pdf")
    yield _one("document.txt", forms.word(), "read", media_type="text/plain")
    yield _one("scan.html", forms.pdf(), "read", media_type="text/html")
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 3_000
    yield _one("old.doc", ole, "unsupported")
    yield _one("locked.docx", ole + "EncryptedPackage".encode("utf-16-le"), "encrypted")
    yield _one("packed.gz", b"\x1f\x8b\x08\0" + b"\0\x9c\xff" * 900, "unsupported", "binary")
    yield _one("../../etc/passwd\0\u202e.md", "# name\n\ntext", "read")
    yield _one("", "text", "read", media_type="no/such; charset=\xff")
    yield _one("large.bin", b"\0" * (65 << 20), "too_large")
