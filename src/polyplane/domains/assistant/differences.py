"""What reading a document anew changes of its chunks. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from polyplane.domains.assistant.models import BETWEEN
from polyplane.domains.assistant.parsing.parsed import Chunk, Parsed

SUMMARY_MAX: Final = 1_000
_HEADING_MAX: Final = 1_000


class Place(NamedTuple):
    """All of a chunk but its text: where it stands, and what its document is called."""

    ordinal: int
    start_at: int
    end_at: int
    heading: str
    page: int | None
    title: str
    media_type: str


class Held(NamedTuple):
    """A chunk as truth has it."""

    id: UUID
    digest: str
    place: Place


class New(NamedTuple):
    """A chunk as truth is to have it."""

    digest: str
    text: str
    place: Place


@dataclass(slots=True)
class Differences:
    """Chunks that come, that only move (their text stays), that go; and how many stay as is."""

    new: list[New] = field(default_factory=list)
    moved: list[tuple[UUID, Place]] = field(default_factory=list)
    gone: list[UUID] = field(default_factory=list)
    same: int = 0


def digest_of(text: str) -> str:
    """The digest by which a chunk is known again."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


def differences(before: Sequence[Held], after: Sequence[New]) -> Differences:
    """What turns `before` into `after`. Equal texts are matched in the order in which they stand,
    so that each row is used once.
    """
    made, known = Differences(), defaultdict[str, deque[Held]](deque)
    for held in sorted(before, key=lambda it: it.place.ordinal):
        known[held.digest].append(held)
    for chunk in after:
        if not (same := known[chunk.digest]):
            made.new.append(chunk)
        elif (held := same.popleft()).place == chunk.place:
            made.same += 1
        else:
            made.moved.append((held.id, chunk.place))
    made.gone = [held.id for left in known.values() for held in left]
    return made


def chunks_of(parsed: Parsed, title: str) -> list[New]:
    """The chunks of a file that was read, as truth is to have them."""
    return [_new(chunk, title, parsed.media_type) for chunk in parsed.chunks]


def _new(chunk: Chunk, title: str, media_type: str) -> New:
    text, heading = storable(chunk.text), storable(BETWEEN.join(chunk.heading))[:_HEADING_MAX]
    place = Place(chunk.ordinal, chunk.start, chunk.end, heading, chunk.page, title, media_type)
    return New(digest_of(text), text, place)


def summary_of(parsed: Parsed) -> str:
    """How the text begins, in at most SUMMARY_MAX characters."""
    found, at = "", 0
    for chunk in parsed.chunks:
        found += chunk.text[max(0, at - chunk.start) :]
        at = max(at, chunk.end)
        if len(found) >= SUMMARY_MAX:
            break
    return storable(found[:SUMMARY_MAX])


def storable(text: str) -> str:
    """`text` without what PostgreSQL cannot keep, each such character replaced by one other."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "".join("\ufffd" if "\ud800" <= it <= "\udfff" else it for it in text)
    return text


def metadata_of(parsed: Parsed) -> dict[str, Any]:
    """What a file says of itself, as JSON that PostgreSQL can keep; what is no JSON, as text."""
    cleaned = _cleaned(parsed.metadata)
    return dict(orjson.loads(orjson.dumps(cleaned, default=str))) if cleaned else {}


def _cleaned(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case Mapping():
            return {storable(str(name)): _cleaned(it) for name, it in value.items()}
        case list() | tuple():
            return [_cleaned(it) for it in value]
        case _:
            return value
