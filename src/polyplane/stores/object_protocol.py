"""What an object store can do besides what every store can."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from polyplane.model.scope import Scope
from polyplane.stores.protocol import Store


class HeldObject(NamedTuple):
    """What an object store says of one version of an object. `etag` is without its quotes.

    `gone`: a delete marker, which hides what was there and holds nothing.
    """

    key: str
    version: str
    size: int
    etag: str
    modified: datetime
    gone: bool = False


class HeldPart(NamedTuple):
    """A part of an upload that is not complete, as the object store has it."""

    number: int
    size: int
    etag: str


class HeldUpload(NamedTuple):
    """An upload in parts that was begun, and neither completed nor aborted."""

    key: str
    upload: str
    begun: datetime


class ObjectStore(Store, Protocol):
    """Owned objects in one bucket with versions. Every key is one that we have made.

    A key begins with its tenant (`<tenant>/...`). What gives contents, or a way to them, takes a
    scope and raises ScopeViolated for a key of another tenant. An object that is not there raises
    NotFound.
    """

    bucket: str

    async def prepare(self) -> None:
        """Make the bucket, have it keep versions, and set its lifecycle rules. Idempotent."""
        ...

    async def rules(self) -> list[dict[str, Any]]:
        """The lifecycle rules that the bucket really has."""
        ...

    async def put(self, key: str, content: bytes, *, content_type: str) -> HeldObject:
        """Put a small object as a whole. The server checks the digest of what it gets."""
        ...

    async def begin(self, key: str, *, content_type: str) -> str:
        """Begin an upload in parts; what it is called."""
        ...

    async def put_part(self, key: str, upload: str, number: int, content: bytes) -> HeldPart:
        """Send part `number` (from 1). The same again replaces it. NotFound: no such upload."""
        ...

    async def parts(self, key: str, upload: str) -> list[HeldPart]:
        """The parts that are there, in order. NotFound: no such upload."""
        ...

    async def complete(self, key: str, upload: str, parts: Sequence[HeldPart]) -> None:
        """Make one object of the parts. NotFound: no such upload; it may be completed already.

        Raises Refused when the parts that are there are others.
        """
        ...

    async def abort(self, key: str, upload: str) -> None:
        """Drop an upload with its parts; nothing if there is none."""
        ...

    async def uploads(self, key: str = "") -> list[HeldUpload]:
        """Every upload (of `key`) that was begun, and neither completed nor aborted."""
        ...

    async def head(self, scope: Scope, key: str, *, version: str | None = None) -> HeldObject:
        """What is there under `key`: this version, or the latest."""
        ...

    def read(
        self,
        scope: Scope,
        key: str,
        *,
        version: str | None = None,
        start: int = 0,
        end: int | None = None,
    ) -> AsyncIterator[bytes]:
        """The content from byte `start` up to and without byte `end`, in pieces."""
        ...

    async def versions_of(self, key: str) -> list[HeldObject]:
        """Every version of one object, delete markers included."""
        ...

    def every(self, *, after: str = "") -> AsyncIterator[list[HeldObject]]:
        """Every version of every object behind the key `after`, in key order, page by page."""
        ...

    async def delete(self, key: str, *, version: str) -> None:
        """Delete one version for good; nothing if there is none."""
        ...

    def url_to_get(
        self, scope: Scope, key: str, *, version: str | None, expires_s: int, name: str
    ) -> str:
        """A URL that anyone may GET this one object with, as a download called `name`."""
        ...

    def url_to_put(
        self, scope: Scope, key: str, *, size: int, content_type: str, expires_s: int
    ) -> str:
        """A URL that anyone may PUT this one object with, of this size and type."""
        ...
