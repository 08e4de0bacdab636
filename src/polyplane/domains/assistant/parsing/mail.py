"""E-mail: headers, the body as text, messages within; attachments are named, not read."""

from __future__ import annotations

import re
from contextlib import suppress
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from typing import Any, Final

from polyplane.domains.assistant.parsing.decoding import decoded
from polyplane.domains.assistant.parsing.extract import (
    VALUE_MAX,
    Draft,
    Extract,
    Refused,
    shortened,
)
from polyplane.domains.assistant.parsing.hypertext import add_html

DEPTH_MAX: Final = 40
PARTS_MAX: Final = 1_000
ATTACHMENTS_MAX: Final = 100
_SHOWN: Final = ("From", "To", "Cc", "Date", "Subject")
_EMPTY: Final = re.compile(r"\n\s*\n")
_NESTED: Final = re.compile(rb"^content-type:\s*(?:multipart/|message/rfc822)", re.I | re.M)


def read_mail(content: bytes, characters_max: int) -> Extract:
    """What an e-mail says. Raises Refused."""
    if sum(1 for _ in _NESTED.finditer(content)) > PARTS_MAX // 4:
        raise Refused("too_deep", "too many messages in each other")
    if content.lower().count(b"\ncontent-type:") > 2 * PARTS_MAX:
        raise _too_many()
    # Not the newer policy: what that takes for a header can grow by the square of its length.
    message = message_from_bytes(content)
    if not any(_said(message, it) for it in _SHOWN):
        raise Refused("damaged", "it has no headers of an e-mail")
    reading = _Reading(Draft(characters_max))
    reading.add(message, 0)
    extract = reading.draft.done()
    extract.title = _said(message, "Subject")
    for name in _SHOWN[:-1]:
        if value := _said(message, name):
            extract.metadata[name.lower()] = shortened(value, VALUE_MAX)
    if reading.attachments:
        extract.metadata["attachments"] = reading.attachments[:ATTACHMENTS_MAX]
    return extract


class _Reading:
    """One message on its way: what is written so far, and what was attached."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.attachments: list[dict[str, Any]] = []
        self._parts = 0

    def add(self, message: Message[Any, Any], depth: int) -> None:
        """Add a message: its headers, what it says, and what is attached to it."""
        self.draft.heading(depth + 1, _said(message, "Subject") or "(no subject)")
        headers = [f"{it}: {said}" for it in _SHOWN[:-1] if (said := _said(message, it))]
        self.draft.block("\n".join(headers))
        self._part(message, depth)

    def _part(self, part: Message[Any, Any], depth: int) -> None:
        self._parts += 1
        if depth > DEPTH_MAX:
            raise Refused("too_deep", f"more than {DEPTH_MAX} messages and parts in each other")
        if self._parts > PARTS_MAX:
            raise _too_many()
        kind, inner = part.get_content_type(), part.get_payload()
        if kind == "message/rfc822" and isinstance(inner, list):
            for message in inner:
                if isinstance(message, Message):
                    self.add(message, depth + 1)
        elif isinstance(inner, list):
            for one in _chosen(inner) if kind == "multipart/alternative" else inner:
                if isinstance(one, Message):
                    self._part(one, depth + 1)
        elif _is_attached(part, kind):
            self._attach(part, kind)
        else:
            self._say(part, kind)

    def _say(self, part: Message[Any, Any], kind: str) -> None:
        content = part.get_payload(decode=True)
        if not isinstance(content, bytes) or not content.strip():
            return
        text, said = decoded(content, part.get_content_charset())
        if replaced := said.get("replaced"):
            found = self.draft.extract.metadata
            found["replaced"] = found.get("replaced", 0) + replaced
        if kind == "text/html":
            add_html(self.draft, text)
        else:
            for paragraph in _EMPTY.split(text):
                self.draft.block(paragraph)

    def _attach(self, part: Message[Any, Any], kind: str) -> None:
        content = part.get_payload(decode=True)
        name = shortened(part.get_filename() or "(no name)")
        size = len(content) if isinstance(content, bytes) else 0
        self.attachments.append({"name": name, "media_type": kind, "bytes": size})
        if len(self.attachments) <= ATTACHMENTS_MAX:
            self.draft.block(f"Attachment: {name} ({kind}, {size:,} bytes)")


def _chosen(parts: list[Any]) -> list[Any]:
    """Of several forms of one text: the plain one, else the last."""
    plain = [it for it in parts if it.get_content_type() == "text/plain"]
    return plain[:1] or parts[-1:]


def _is_attached(part: Message[Any, Any], kind: str) -> bool:
    is_named = part.get_content_disposition() == "attachment" or part.get_filename() is not None
    return is_named or not kind.startswith("text/")


def _said(message: Message[Any, Any], name: str) -> str:
    """A header, decoded as far as it can be; empty when it is not there."""
    value = str(message[name] or "")[: 8 * VALUE_MAX]
    with suppress(MessageError, LookupError, ValueError):  # else as it was written
        value = str(make_header(decode_header(value)))
    return shortened(value, VALUE_MAX)


def _too_many() -> Refused:
    return Refused("too_large", f"it has more than {PARTS_MAX:,} parts")
