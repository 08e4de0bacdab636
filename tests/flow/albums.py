"""What the tests of blobs share: a model that refers to files, contents, and the raw bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped

import polyplane as pp
from polyplane import Plane
from polyplane.model.blob import PART_BYTES
from tests.contract.s3_raw import Bucket
from tests.flow.embedded_s3 import client_of


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Picture(Base):
    """It has a file."""

    __tablename__ = "picture"
    id: Mapped[UUID] = pp.key()
    title: Mapped[str]
    file: Mapped[UUID] = pp.Blob.reference()
    thumbnail: Mapped[UUID | None] = pp.Blob.reference()


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that are no other's, the same each time."""
    return Random(seed).randbytes(size)


LARGE = 2 * PART_BYTES + 12_345
"""Three parts."""


async def pieces(whole: bytes, size: int = 300_001) -> AsyncIterator[bytes]:
    """As a stream, which does not say how long it is."""
    for start in range(0, len(whole), size):
        yield whole[start : start + size]


def digest(whole: bytes) -> str:
    """Its SHA-256, in hexadecimal."""
    return sha256(whole).hexdigest()


async def read(plane: Plane, blob: pp.Blob | UUID, **how: Any) -> bytes:
    """Through the plane."""
    return b"".join([piece async for piece in plane.blobs.open(blob, **how)])


def bucket_of(plane: Plane) -> Bucket:
    """Its bucket, past the plane."""
    store = plane.opened.stores.objects
    assert store is not None
    return Bucket(client_of(plane.opened.urls["s3"]), store.bucket)
