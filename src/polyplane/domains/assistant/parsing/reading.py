"""One file read: what it is, what it says, in chunks; or why not. Runs in a child process."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import PurePath
from typing import Any, Final

from polyplane.domains.assistant.parsing.chunking import chunks_of
from polyplane.domains.assistant.parsing.decoding import decoded
from polyplane.domains.assistant.parsing.extract import (
    TITLE_MAX,
    Extract,
    Refused,
    directions,
    shortened,
)
from polyplane.domains.assistant.parsing.kinds import Kind, kind_of
from polyplane.domains.assistant.parsing.parsed import ChunkOptions, Limits, Parsed, Unreadable

_REASON_MAX: Final = 300


def read_one(
    name: str, media_type: str | None, content: bytes, options: ChunkOptions, limits: Limits
) -> Parsed | Unreadable:
    """What the file called `name` holds. Never raises but for what ends a process."""
    try:
        return _read(name, media_type, content, options, limits)
    except Refused as refused:
        return Unreadable(refused.code, shortened(refused.reason, _REASON_MAX))
    except MemoryError:
        return Unreadable("memory", "reading it takes more memory than is allowed")
    except RecursionError:
        return Unreadable("too_deep", "what it holds is nested too deeply")
    except Exception as error:  # whatever a library raises on a broken file: it is named, not lost
        why = shortened(f"{type(error).__name__}: {error}", _REASON_MAX - 50)
        return Unreadable("damaged", f"its reader gave up ({why})")


def _read(
    name: str, media_type: str | None, content: bytes, options: ChunkOptions, limits: Limits
) -> Parsed:
    if not content:
        raise Refused("empty", "it has no bytes")
    kind = kind_of(name, media_type, content)
    extract, metadata = _extract(kind, content, limits)
    if not extract.text or extract.text.isspace():
        if kind.form == "text":
            raise Refused("empty", "there is nothing but space in it")
        raise Refused("no_text", "there is no text in it; if pages are pictures, they are not read")
    if len(extract.text) > limits.text_characters:
        raise Refused("too_large", f"it has more than {limits.text_characters:,} characters")
    said = (media_type or "").partition(";")[0].strip().lower()
    if said and said != kind.media_type:
        metadata["declared_media_type"] = shortened(said)
    if turns := directions(extract.text):
        metadata["direction_signs"] = turns
    return Parsed(
        kind.media_type,
        extract.title or shortened(PurePath(name).stem or name, TITLE_MAX) or "(no name)",
        {**extract.metadata, **metadata},
        len(extract.text),
        chunks_of(extract, options),
    )


def _extract(kind: Kind, content: bytes, limits: Limits) -> tuple[Extract, dict[str, Any]]:
    """What the reader of a kind finds, and what is to be said of the encoding."""
    module, _, function = kind.reader.partition(":")
    read: Callable[..., Extract] = getattr(import_module(module), function)
    if kind.form == "bytes":
        return read(content, limits.text_characters), {}
    text, said = decoded(content)
    if len(text) > limits.text_characters and kind.form == "text":
        raise Refused("too_large", f"it has more than {limits.text_characters:,} characters")
    found = read(text) if kind.form == "text" else read(text, limits.text_characters)
    return found, dict(said)
