"""What goes between the pool and its children: frames of JSON. Pure.

A child may have read something that made it do what its maker wanted. So nothing it sends is more
than numbers and text, and each is looked at.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, get_args

import orjson

from polyplane.domains.assistant.parsing.parsed import (
    Chunk,
    ChunkOptions,
    Failure,
    Limits,
    Parsed,
    Unreadable,
)

LENGTH: Final = struct.Struct("!I")
METADATA_BYTES_MAX: Final = 100_000
_CODES: Final = frozenset(get_args(Failure))


_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class Garbled(Exception):
    """A child said what no child says."""


def settings_text(options: ChunkOptions, limits: Limits) -> str:
    """What a child is told when it starts."""
    return orjson.dumps({"options": asdict(options), "limits": asdict(limits)}).decode()


def settings_of(text: str) -> tuple[ChunkOptions, Limits]:
    """See `settings_text`."""
    said = orjson.loads(text)
    return ChunkOptions(**said["options"]), Limits(**said["limits"])


def framed(body: bytes) -> bytes:
    """`body` with its length before it."""
    return LENGTH.pack(len(body)) + body


def request_of(items: Sequence[tuple[str, str | None, bytes]]) -> bytes:
    """Files on their way to a child: a frame that names them, then their bytes."""
    names = [(_sendable(name), kind and _sendable(kind), len(it)) for name, kind, it in items]
    return b"".join([framed(orjson.dumps(names)), *(content for _, _, content in items)])


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def answer_of(result: Parsed | Unreadable) -> bytes:
    """What a child says of a file: its text once, and where the chunks are."""
    if isinstance(result, Unreadable):
        return framed(orjson.dumps({"code": result.code, "reason": result.reason}))
    paths = {path: i for i, path in enumerate(dict.fromkeys(it.heading for it in result.chunks))}
    metadata = result.metadata
    if len(orjson.dumps(metadata)) > METADATA_BYTES_MAX:
        metadata = {"metadata": "too large to keep"}
    return framed(
        orjson.dumps(
            {
                "media_type": result.media_type,
                "title": result.title,
                "metadata": metadata,
                "text": _joined(result.chunks),
                "paths": list(paths),
                "chunks": [
                    (it.start, it.end, paths[it.heading], it.page or 0) for it in result.chunks
                ],
            }
        )
    )


def _joined(chunks: Sequence[Chunk]) -> str:
    """The text that chunks cover."""
    parts, end = [], 0
    for chunk in chunks:
        parts.append(chunk.text[end - chunk.start :])
        end = chunk.end
    return "".join(parts)


def result_of(body: bytes) -> Parsed | Unreadable:
    """What a child said. Raises Garbled when it is not what a child says."""
    try:
        said = orjson.loads(body)
        if "code" in said:
            return _unreadable(said)
        return _parsed(said)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise Garbled(f"{type(error).__name__}: {error}") from error


def _unreadable(said: Mapping[str, Any]) -> Unreadable:
    code, reason = said["code"], said["reason"]
    if code not in _CODES or not isinstance(reason, str):
        raise Garbled("an unknown failure")
    return Unreadable(code, reason[:1_000])


def _parsed(said: Mapping[str, Any]) -> Parsed:
    text, metadata = said["text"], said["metadata"]
    paths = [tuple(it) for it in said["paths"]]
    texts = [text, said["title"], said["media_type"], *(it for path in paths for it in path)]
    if not (all(isinstance(it, str) for it in texts) and isinstance(metadata, dict)):
        raise Garbled("no text where text should be")
    if any("\0" in it for it in texts) or _NUL.search(orjson.dumps(metadata)):
        raise Garbled("what no database takes")
    chunks, end = [], 0
    for ordinal, (start, stop, path, page) in enumerate(said["chunks"]):
        if not (isinstance(start, int) and isinstance(stop, int) and isinstance(page, int)):
            raise Garbled("no number where a number should be")
        if not (0 <= start <= end < stop <= len(text) and page >= 0 and path >= 0):
            raise Garbled("chunks that do not cover the text")
        chunks.append(Chunk(ordinal, start, stop, text[start:stop], paths[path], page or None))
        end = stop
    if end != len(text):
        raise Garbled("chunks that do not cover the text")
    title, media_type = said["title"][:1_000], said["media_type"][:200]
    return Parsed(media_type, title, metadata, len(text), tuple(chunks))
