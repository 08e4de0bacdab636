"""Bytes become text: by their mark, as UTF-8, as they say, or as what they look like."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Any, Final

from polyplane.domains.assistant.parsing.extract import Refused, clean

SAMPLE_BYTES: Final = 1 << 16
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NUL_SHARE_MAX: Final = 0.01
_BAD_SHARE_MAX: Final = 0.3
_CONTROL: Final = re.compile("[\x01-\x08\x0e-\x1a\x1c-\x1f]")
_META: Final = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE
)
_COOKIE: Final = re.compile(rb"^[^\n]{0,100}\n?[^\n]{0,100}coding[:=]\s*([\w.-]{1,40})")

_BYTES_ONLY: Final = frozenset({"base64", "bz2", "hex", "quopri", "rot13", "uu", "zlib"})


def has_mark(content: bytes) -> bool:
    """Whether a byte order mark says that this is text, whatever bytes follow."""
    return any(content.startswith(bom) for bom, _ in _BOMS)


def decoded(content: bytes, declared: str | None = None) -> tuple[str, Mapping[str, Any]]:
    """The text of `content`, and what is to be said of its encoding: `encoding` when it is not
    UTF-8, `replaced` where characters could not be read, U+FFFD stands for each. Raises Refused.
    """
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            return _read_as(encoding, content[len(bom) :])
    if b"\0" in content:
        if wide := _wide(content):
            return _read_as(wide, content)
        if content.count(b"\0") > _NUL_SHARE_MAX * len(content):
            raise Refused("binary", "it is no text, and no format that is known")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return _guessed(content, declared or _declared(content))
    _check(text)
    nuls = text.count("\0")
    return clean(text), {"replaced": nuls} if nuls else {}


def _wide(content: bytes) -> str | None:
    """UTF-16 without a mark: of plain text every other byte is NUL."""
    half = len(content[:SAMPLE_BYTES]) // 2
    even, odd = (content[i : 2 * half : 2].count(0) for i in (0, 1))
    if half and odd > 0.4 * half and even < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if half and even > 0.4 * half and odd < 0.1 * half else None


def _declared(content: bytes) -> str | None:
    """The encoding that HTML, XML or source code says it has."""
    found = _META.search(content[:4096]) or _COOKIE.search(content[:256])
    return found[1].decode("ascii", "replace") if found else None


def _guessed(content: bytes, declared: str | None) -> tuple[str, Mapping[str, Any]]:
    text = content.decode(errors="replace")
    bad = text.count("\ufffd")
    good = sum(len(it) for it in re.findall("[^\x00-\x7f\ufffd]+", text[:SAMPLE_BYTES]))
    if good > bad:  # UTF-8 with some damage
        return clean(text), {"replaced": bad}
    for named in (declared, _looks_like(content)):
        if named and (encoding := _known(named)):
            return _read_as(encoding, content)
    if bad > _BAD_SHARE_MAX * len(text):
        raise Refused("binary", "it is no text in any encoding that is known")
    return clean(text), {"replaced": bad}


def _looks_like(content: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(content[:SAMPLE_BYTES]).best()
    return best.encoding if best is not None else None


def _known(encoding: str) -> str | None:
    try:
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        return None
    return None if name in _BYTES_ONLY else name


def _read_as(encoding: str, content: bytes) -> tuple[str, Mapping[str, Any]]:
    try:
        text = content.decode(encoding, "replace")
    except UnicodeError as error:
        raise Refused("damaged", f"it says that it is {encoding}, and is not") from error
    _check(text)
    bad = text.count("\ufffd") + text.count("\0")
    if bad > _BAD_SHARE_MAX * len(text):
        raise Refused("binary", f"it is no text: most of it is no {encoding}")
    said: dict[str, Any] = {} if encoding == "utf-8" else {"encoding": encoding}
    return clean(text), said | ({"replaced": bad} if bad else {})


def _check(text: str) -> None:
    """Raises Refused for what decodes and yet is no text."""
    if len(_CONTROL.findall(text[:SAMPLE_BYTES])) > 0.1 * min(len(text), SAMPLE_BYTES):
        raise Refused("binary", "it is no text: it is full of control characters")
