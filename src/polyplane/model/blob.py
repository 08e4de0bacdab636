"""Blobs: files of any size, owned by the object store and known to truth by a row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import md5
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from polyplane.errors import TooLarge
from polyplane.model.table import Model, table_of

PART_BYTES: Final = 16 << 20
"""The size of the first parts of an upload. S3 takes from 5 MiB to 5 GiB, but for the last one."""
PART_STEP: Final = 250
"""After each so many parts they grow by PART_BYTES."""
PARTS_MAX: Final = 10_000
"""What S3 takes of them."""
NAME_MAX: Final = 1_024
NOT_BLOBS: Final = ".polyplane/"
"""Before the keys of objects of ours that are no blobs."""

# Only a committed blob can be referred to, and none that is referred to can be deleted: the column
# is null in every other state (see truth/sql/blob_tables.sql).
BLOBS: Final = sa.Table(
    "blob", sa.MetaData(schema="polyplane"), sa.Column("committed_id", sa.Uuid, unique=True)
)


class BlobState(StrEnum):
    """Where a blob is in its life; it never goes back."""

    PENDING = "pending"
    COMMITTED = "committed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Blob:
    """What truth knows of one file.

    `sha256` (hexadecimal) and `size` (bytes) are those of the content, known once it is committed.
    `bucket`, `key` and `version` name the object that holds it; blobs of equal content share one.
    `fault` is "lost" or "damaged" when a verify has found it so and a repair has marked it.
    """

    id: UUID
    tenant: str
    name: str
    content_type: str
    state: BlobState
    bucket: str
    key: str
    created_at: datetime
    size: int | None = None
    sha256: str | None = None
    etag: str | None = None
    version: str | None = None
    committed_at: datetime | None = None
    expires_at: datetime | None = None
    fault: str = ""

    @staticmethod
    def reference() -> Mapped[Any]:
        """The column of a model that refers to a blob by its id::

            file: Mapped[UUID] = pp.Blob.reference()      # or Mapped[UUID | None]

        It takes the ids of committed blobs only, and such a blob cannot be deleted.
        """
        return mapped_column(sa.Uuid, sa.ForeignKey(BLOBS.c.committed_id), index=True)


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part that the object store has acknowledged.

    `prefix_sha256` (hexadecimal) is the digest of all content up to the end of this part: who sends
    the content again from its start need not send this part if it comes by the same digest.
    """

    number: int
    size: int
    etag: str
    prefix_sha256: str


def part_bytes(number: int) -> int:
    """The size of part `number` (from 1): the same for every upload, so that anyone can go on.

    Raises TooLarge beyond PARTS_MAX parts, which are 3.1 TiB.
    """
    if number > PARTS_MAX:
        most = sum(map(part_bytes, range(1, PARTS_MAX + 1)))
        raise TooLarge(f"A blob has at most {most:,} bytes.")
    return PART_BYTES * (1 + (number - 1) // PART_STEP)


def composite_etag(etags: list[str]) -> str | None:
    """The ETag that S3 gives to an object of these parts, or None where theirs are not MD5."""
    try:
        digests = [bytes.fromhex(etag) for etag in etags]
    except ValueError:
        return None
    if not all(len(digest) == 16 for digest in digests):
        return None
    joined = md5(b"".join(digests), usedforsecurity=False).hexdigest()
    return f"{joined}-{len(digests)}"


def key_of(tenant: str, blob_id: UUID) -> str:
    """Under which key the object is put: made by us, never of a name that somebody gives."""
    return f"{tenant}/{blob_id}"


def refers_to_blobs(model: type[Model]) -> bool:
    """Whether a column of `model` is a `Blob.reference()`."""
    wanted = BLOBS.c.committed_id.key
    return any(
        key.target_fullname == f"{BLOBS.schema}.{BLOBS.name}.{wanted}"
        for key in table_of(model).foreign_keys
    )
