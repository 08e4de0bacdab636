"""Files that are well made, as bytes: what the hostile ones are made of."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from email.message import EmailMessage
from io import BytesIO

import docx

PARAGRAPH = (
    "The relay carries changes from the outbox to the stream, in order, and nothing is lost. "
)
MARKDOWN = "\n\n".join(
    ["# The data plane", PARAGRAPH * 3, "## Relay", PARAGRAPH * 9, "- one\n- two"]
)
HTML = (
    "<!doctype html><html><head><title>The data plane</title><style>.hidden{}</style></head><body>"
    f"<nav>menu</nav><h1>Truth</h1><p>{PARAGRAPH * 3}</p><script>alert('never')</script>"
    f"<h2>Relay</h2><ul><li>one<li>two</ul><table><tr><td>a<td>b</table><p>{PARAGRAPH * 9}</p>"
    "</body></html>"
)
CODE = f'"""The relay."""\n\nimport os\n\n\nclass Relay:\n    """{PARAGRAPH}"""\n\n' + "".join(
    f"    def step_{i}(self) -> int:\n        return {i}\n\n" for i in range(60)
)
RTF = r"{\rtf1\ansi{\b The data plane}\par " + (PARAGRAPH + r"\par ") * 9 + "}"


def archive(entries: Mapping[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP archive of these; `mimetype` is stored as it is."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, content in entries.items():
            how = zipfile.ZIP_STORED if name == "mimetype" else method
            made.writestr(zipfile.ZipInfo(name), content, how)
    return out.getvalue()


def entries_of(content: bytes) -> dict[str, bytes | str]:
    """What is in a ZIP archive."""
    with zipfile.ZipFile(BytesIO(content)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def word() -> bytes:
    """A DOCX file."""
    document = docx.Document()
    document.core_properties.title = "The data plane"
    document.add_heading("Truth", level=1)
    document.add_paragraph(PARAGRAPH * 3)
    document.add_heading("Relay", level=2)
    table = document.add_table(rows=2, cols=2)
    table.cell(0, 0).text, table.cell(1, 1).text = "one", "two"
    document.add_paragraph(PARAGRAPH * 9)
    out = BytesIO()
    document.save(out)
    return archive(entries_of(out.getvalue()))  # which has no time of its making


OFFICE = "urn:oasis:names:tc:opendocument:xmlns"


def odt(body: str = "", before: str = "") -> bytes:
    """An ODT file. `before` stands before the root of its content."""
    text = f'<text:h text:outline-level="1">Truth</text:h><text:p>{PARAGRAPH * 9}</text:p>'
    content = (
        f'{before}<office:document-content xmlns:office="{OFFICE}:office:1.0" xmlns:text="{OFFICE}'
        f':text:1.0"><office:body><office:text>{body or text}</office:text></office:body>'
        "</office:document-content>"
    )
    return archive({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def epub(pages: dict[str, str] | None = None) -> bytes:
    """An EPUB of these pages, by name."""
    pages = pages or {"one.xhtml": HTML, "two.xhtml": f"<h1>Repair</h1><p>{PARAGRAPH * 5}</p>"}
    items = "".join(f'<item id="i{i}" href="{name}"/>' for i, name in enumerate(pages))
    refs = "".join(f'<itemref idref="i{i}"/>' for i in range(len(pages)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The data plane</dc:title></metadata>'
        f"<manifest>{items}</manifest><spine>{refs}</spine></package>"
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    )
    return archive(
        {"mimetype": "application/epub+zip", "META-INF/container.xml": container}
        | {"OEBPS/book.opf": package}
        | {f"OEBPS/{name}": page for name, page in pages.items()}
    )


def mail(depth: int = 0) -> bytes:
    """An e-mail in two forms, with an attachment, in so many others."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Größe", "ada@example.org", "b@example.org"
    message.set_content(f"Dear B,\n\n{PARAGRAPH * 3}\n\nÄrger.", charset="iso-8859-1")
    message.add_alternative(HTML, subtype="html")
    message.add_attachment(b"\0" * 100, "application", "x-thing", filename="../../thing.bin")
    _bound(message)
    for _ in range(depth):
        outer = EmailMessage()
        outer["Subject"], outer["From"] = "Fwd", "c@example.org"
        outer.set_content("see below")
        outer.add_attachment(message)
        message = outer
        _bound(message)
    return message.as_bytes()


def _bound(message: EmailMessage) -> None:
    """Name what stands between the parts, which is random else."""
    for number, part in enumerate(message.walk()):
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            part.set_boundary(f"between-{number}")


def pdf(pages: list[str] | None = None, extra: str = "", catalog: str = "") -> bytes:
    """A PDF with these pages. `extra` are more objects, `catalog` more entries of its catalog."""
    pages = ["Truth " + PARAGRAPH, "Relay " + PARAGRAPH] if pages is None else pages
    count = len(pages)
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(count))
    objects = [
        f"1 0 obj<</Type/Catalog/Pages 2 0 R{catalog}>>endobj\n".encode(),
        f"2 0 obj<</Type/Pages/Kids[{kids}]/Count {count}>>endobj\n".encode(),
        b"3 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\n",
    ]
    for i, text in enumerate(pages):
        drawn = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        stream = zlib.compress(drawn.encode("latin-1"))
        objects.append(
            f"{4 + 2 * i} 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents "
            f"{5 + 2 * i} 0 R/Resources<</Font<</F1 3 0 R>>>>>>endobj\n".encode()
        )
        objects.append(
            f"{5 + 2 * i} 0 obj<</Length {len(stream)}/Filter/FlateDecode>>stream\n".encode()
            + stream
            + b"\nendstream endobj\n"
        )
    return finished_pdf([*objects, extra.encode("latin-1")] if extra else objects)


def finished_pdf(objects: list[bytes], trailer: str = "") -> bytes:
    """Objects, with what a PDF has before and after."""
    out, places = b"%PDF-1.7\n", []
    for one in objects:
        places.append(len(out))
        out += one
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    start, size = len(out), len(objects) + 1
    head = (
        f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer<</Root 1 0 R/Size {size}{trailer}>>"
    )
    return out + f"{head}\nstartxref\n{start}\n%%EOF".encode()


def good() -> dict[str, bytes]:
    """One file of each kind, by name."""
    return {
        "page.md": MARKDOWN.encode(),
        "page.html": HTML.encode(),
        "relay.py": CODE.encode(),
        "page.rtf": RTF.encode(),
        "page.docx": word(),
        "page.odt": odt(),
        "page.epub": epub(),
        "letter.eml": mail(),
        "page.pdf": pdf(),
        "page.txt": f"Truth\n=====\n\n{PARAGRAPH * 9}\n".encode(),
        "page.rst": f"=====\nTruth\n=====\n\n{PARAGRAPH * 9}\n\nRelay\n-----\n\ntext\n".encode(),
        "table.csv": b"name,size\n" + b"one,1\n" * 300,
        "rows.json": b'{\n  "name": [1, 2, 3]\n}\n',
    }
