"""The parts of a blob on their way to the object store: several at once, none of them twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from hashlib import md5
from typing import Final, NamedTuple, Protocol
from uuid import UUID

import stamina

from polyplane.errors import Conflict, StoreDown
from polyplane.flow.content import Content, Reader
from polyplane.model.blob import SentPart, part_bytes
from polyplane.steps import step
from polyplane.stores.object_protocol import HeldPart, ObjectStore

IN_FLIGHT_BYTES: Final = 32 << 20
"""Of the parts that are being sent; of large parts one at a time. One more is being read."""
AGAIN_S: Final = 60.0
"""For how long a part is tried again while the store does not answer: it may be restarting."""

Progress = Callable[[int], None]
"""Hears how many bytes the object store has."""


class PartRows(Protocol):
    """Where parts are noted."""

    async def sent(self, blob_id: UUID, upload: str, part: SentPart) -> None:
        """Note a part that is acknowledged."""
        ...


class Sent(NamedTuple):
    """All of a content, acknowledged by the object store in so many parts."""

    size: int
    sha256: str
    parts: int


class Sending:
    """One upload in parts. `noted` are the parts of truth, `held` those of the object store."""

    def __init__(
        self,
        blob_id: UUID,
        key: str,
        upload: str,
        store: ObjectStore,
        rows: PartRows,
        *,
        noted: Mapping[int, SentPart],
        held: Mapping[int, HeldPart],
        progress: Progress | None = None,
    ) -> None:
        self._blob_id, self._key, self._upload = blob_id, key, upload
        self._store, self._rows = store, rows
        self._noted, self._held = noted, held
        self._progress = progress
        self._done = 0
        self._in_flight = 0
        self._room = asyncio.Condition()

    async def run(self, reader: Reader) -> Sent:
        """Send all that is not there yet.

        Raises Conflict when the content is not the one that the upload was begun with, StoreDown
        when the store does not answer for AGAIN_S seconds.
        """
        parts, this = 0, await reader.next()
        unreadable: Exception | None = None
        try:
            async with asyncio.TaskGroup() as sending:
                while this.bytes:
                    parts = this.number
                    if await self._is_there(this):
                        self._tell(this)
                    else:
                        await self._wait_for_room(len(this.bytes))
                        sending.create_task(self._send(this))
                    if len(this.bytes) < part_bytes(this.number):
                        break
                    del this  # it need not be held while the next one is read
                    try:
                        this = await reader.next()
                    except Exception as error:  # what is on its way arrives first
                        unreadable = error
                        break
        except* Exception as several:
            raise _first(several) from None
        if unreadable is not None:
            raise unreadable
        return Sent(reader.size, reader.sha256, parts)

    async def _is_there(self, part: Content) -> bool:
        """Whether the store has this part, with this content; note it, if nobody has yet."""
        held, noted = self._held.get(part.number), self._noted.get(part.number)
        if noted is not None and noted.prefix_sha256 != part.prefix_sha256:
            raise Conflict(
                f"Part {part.number} is not what was sent before: this is another content.",
                fix="Give the file that the upload was begun with, or put this one anew.",
            )
        if held is None or held.size != len(part.bytes):
            return False
        if noted is not None:
            return noted.etag == held.etag
        # Killed between the store's word and the note. Its ETag is the MD5 of what it has.
        found = await asyncio.to_thread(md5, part.bytes, usedforsecurity=False)
        if found.hexdigest() != held.etag:
            return False
        await self._note(part, held)
        return True

    async def _send(self, part: Content) -> None:
        try:
            async for attempt in stamina.retry_context(
                on=StoreDown, attempts=None, timeout=AGAIN_S, wait_max=5.0
            ):
                with attempt:
                    held = await self._store.put_part(
                        self._key, self._upload, part.number, part.bytes
                    )
            step("blob.part_sent")
            await self._note(part, held)
            step("blob.part_noted")
        finally:
            async with self._room:
                self._in_flight -= len(part.bytes)
                self._room.notify_all()
        self._tell(part)

    async def _note(self, part: Content, held: HeldPart) -> None:
        noted = SentPart(part.number, len(part.bytes), held.etag, part.prefix_sha256)
        await self._rows.sent(self._blob_id, self._upload, noted)

    async def _wait_for_room(self, size: int) -> None:
        async with self._room:
            await self._room.wait_for(
                lambda: not self._in_flight or self._in_flight + size <= IN_FLIGHT_BYTES
            )
            self._in_flight += size

    def _tell(self, part: Content) -> None:
        self._done += len(part.bytes)
        if self._progress is not None:
            self._progress(self._done)


def _first(several: BaseExceptionGroup[Exception]) -> Exception:
    """What went wrong first: the rest was cancelled, or went wrong of it."""
    found: BaseException = several
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, Exception)
    return found
