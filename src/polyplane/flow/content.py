"""What a blob is made of: a file, a stream or bytes, read in parts and digested on the way.

Nothing is held but the part at hand, however large the whole is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from polyplane.errors import Refused
from polyplane.model.blob import part_bytes

Source = Path | bytes | BinaryIO | AsyncIterable[bytes]
"""A file by its path, an open one (from where it stands), bytes, or a stream of pieces."""


class Content(NamedTuple):
    """A part, and the SHA-256 (hexadecimal) of all up to its end."""

    number: int
    bytes: bytes
    prefix_sha256: str


class _Pieces(Protocol):
    async def take(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end."""
        ...


class Reader:
    """A content, part by part."""

    def __init__(self, pieces: _Pieces) -> None:
        self.size = 0
        self._pieces = pieces
        self._digest = sha256()
        self._number = 0
        self._back: Content | None = None

    @property
    def sha256(self) -> str:
        """The digest of all that was read, in hexadecimal."""
        return self._digest.hexdigest()

    async def next(self) -> Content:
        """The next part; shorter than `part_bytes` says only at the end, and empty behind it.

        Raises Refused when the file cannot be read, TooLarge when there is no end to it.
        """
        if self._back is not None:
            back, self._back = self._back, None
            return back
        self._number += 1
        found = await self._pieces.take(part_bytes(self._number))
        await asyncio.to_thread(self._digest.update, found)
        self.size += len(found)
        return Content(self._number, found, self.sha256)

    def put_back(self, content: Content) -> None:
        """Let `next` give the last part once more: who only looks at it need not hold it."""
        self._back = content


@asynccontextmanager
async def reading(source: Source) -> AsyncIterator[Reader]:
    """A reader of `source`; a file that it has opened is closed when the block ends.

    Raises Refused when there is no such file.
    """
    if isinstance(source, Path):
        try:
            file = await asyncio.to_thread(source.open, "rb", buffering=0)
        except OSError as error:
            raise Refused(f"{source} cannot be read: {error.strerror}.") from error
        try:
            yield Reader(_OfFile(file))
        finally:
            file.close()
    elif isinstance(source, bytes | bytearray | memoryview):
        yield Reader(_OfFile(BytesIO(source)))
    elif isinstance(source, AsyncIterable):
        yield Reader(_OfStream(source))
    elif hasattr(source, "read"):
        yield Reader(_OfFile(source))
    else:
        raise Refused(
            f"A {type(source).__name__} is no content.",
            fix="Give a Path, bytes, a file opened as binary, or an async iterator of bytes.",
        )


class _OfFile:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def take(self, size: int) -> bytes:
        try:
            return await asyncio.to_thread(self._take, size)
        except OSError as error:
            raise Refused(f"The file cannot be read: {error.strerror or error}.") from error

    def _take(self, size: int) -> bytes:
        found = self._file.read(size)
        if not isinstance(found, bytes):
            raise Refused("The file was not opened as binary.")
        if len(found) in (0, size):
            return found
        pieces, left = [found], size - len(found)
        while left and (piece := self._file.read(left)):  # a raw file may give less than asked for
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)


class _OfStream:
    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = aiter(stream)
        self._over = b""

    async def take(self, size: int) -> bytes:
        pieces, held = [self._over], len(self._over)
        self._over = b""
        while held < size:
            piece = await anext(self._stream, None)
            if piece is None:
                break
            pieces.append(piece)
            held += len(piece)
        whole = b"".join(pieces)
        if len(whole) > size:
            self._over = whole[size:]
            return whole[:size]
        return whole
