"""Files that are archives within (DOCX, ODT, EPUB): looked at before anything is unpacked.

Nothing is ever written to a disk: names in an archive are names, wherever they point.
"""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import Any, Final
from zipfile import BadZipFile, ZipFile, ZipInfo

from lxml import etree

from polyplane.domains.assistant.parsing.extract import Refused

ENTRIES_MAX: Final = 10_000
EXPANDED_MAX: Final = 256 << 20
"""Bytes of all that is in an archive, as it says itself; no more of it is ever unpacked."""
RATIO_MAX: Final = 200
RATIO_FROM: Final = 8 << 20
"""Below so many bytes expanded, any ratio will do."""
_HEADER_BYTES: Final = 30
_MARK: Final = b"PK\x03\x04"


def is_archive(content: bytes) -> bool:
    """Whether these are the bytes of a ZIP archive."""
    return content.startswith(_MARK)


def opened(content: bytes) -> ZipFile:
    """The archive, once it is known to be harmless. Raises Refused."""
    try:
        archive = ZipFile(BytesIO(content))
        entries = archive.infolist()
    except (BadZipFile, ValueError, OverflowError, NotImplementedError, EOFError) as error:
        raise Refused("damaged", "its archive is broken or not whole") from error
    if len(entries) > ENTRIES_MAX:
        raise Refused("bomb", f"its archive has more than {ENTRIES_MAX:,} entries")
    expanded = sum(it.file_size for it in entries)
    if expanded > EXPANDED_MAX:
        raise Refused("bomb", f"its archive unpacks to more than {EXPANDED_MAX >> 20} MiB")
    if expanded > RATIO_FROM and expanded > RATIO_MAX * len(content):
        raise Refused("bomb", f"its archive unpacks to more than {RATIO_MAX} times its size")
    _check_overlaps(entries)
    if any(it.flag_bits & 0x1 for it in entries):
        raise Refused("encrypted", "its archive needs a password")
    return archive


def _check_overlaps(entries: list[ZipInfo]) -> None:
    """Entries that share their bytes can be a bomb that no sum shows."""
    end = 0
    for entry in sorted(entries, key=lambda it: it.header_offset):
        if entry.header_offset < end:
            raise Refused("bomb", "entries of its archive overlap")
        end = entry.header_offset + _HEADER_BYTES + entry.compress_size


def content_of(archive: ZipFile, name: str) -> bytes | None:
    """What the entry `name` holds; None when there is none. Raises Refused."""
    try:
        return archive.read(name)
    except KeyError:
        return None
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise Refused("damaged", f"{name[:100]} in its archive is broken") from error


def xml_of(content: bytes) -> Any:
    """The root of an XML document: no entity is expanded, nothing is fetched. Raises Refused."""
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
    )
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        if "depth" in str(error).lower():
            raise Refused("too_deep", "its XML is nested too deeply") from error
        raise Refused("damaged", f"its XML is broken: {str(error)[:150]}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise Refused("bomb", "its XML defines entities of its own")
    return root


def entries_outside(archive: ZipFile) -> int:
    """How many names in an archive point outside of it."""
    return sum(
        it.filename.startswith(("/", "\\")) or ".." in it.filename.replace("\\", "/").split("/")
        for it in archive.infolist()
    )
