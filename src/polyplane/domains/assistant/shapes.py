"""What the routes of documents take and give: strict coming in, complete going out."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from polyplane.domains.assistant.arrivals import (
    ARRIVALS_MAX,
    Arrival,
    Failure,
    Known,
    Landed,
    Taken,
    Work,
)
from polyplane.domains.assistant.models import NAME_BYTES_MAX, REASON_MAX

IDS_MAX: Final = 1_000
CONTENT_CHARACTERS_MAX: Final = 8 << 20

Source = Literal["upload", "folder", "url"]
State = Literal["received", "parsing", "ready", "failed"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_BYTES_MAX)]
Kind = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,120}$")]
Stamp = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Content = Annotated[str, StringConstraints(max_length=CONTENT_CHARACTERS_MAX)]
Code = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,50}$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=REASON_MAX)]
Ids = Annotated[list[UUID], Field(min_length=1, max_length=IDS_MAX)]


class Wire(BaseModel):
    """A field nobody knows is a mistake."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class DocumentShown(BaseModel):
    """A document: what is kept of a file, and what came of reading it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    tenant_id: str
    owner_id: UUID | None = Field(description="Whose it is; null: everybody's in the tenant.")
    source: Source
    name: str = Field(examples=["/srv/handbook/kettles.md"])
    title: str = Field(examples=["Kettles"])
    state: State
    failure_code: str | None = Field(examples=["encrypted"])
    failure_reason: str | None = Field(examples=["it has a password"])
    media_type: str = Field(examples=["text/markdown"])
    sha256: str | None = Field(description="Of its content; null: it could not be taken.")
    size: int = Field(description="Bytes.")
    text_length: int = Field(description="Characters of the text in it.")
    chunk_count: int
    chunker_version: int | None
    chunk_size: int | None = Field(description="Characters, at most.")
    chunk_overlap: int | None
    details: dict[str, Any] = Field(description="What the file says of itself.")
    created_at: datetime
    updated_at: datetime


class ChunkShown(BaseModel):
    """A piece of a document's text, from `start_at` to `end_at`, in characters."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    document_id: UUID
    ordinal: int
    start_at: int
    end_at: int
    heading: str = Field(description="The headings above it.", examples=["Kettles > Repair"])
    page: int | None
    text: str
    chunker_version: int


class ChunkPage(BaseModel):
    """Chunks of a document in their order."""

    items: list[ChunkShown]
    next: int | None = Field(default=None, description="Pass as `after`; null: no more.")


class TextShown(BaseModel):
    """Text of a document in its place."""

    start: int
    end: int
    length: int = Field(description="Of the whole text, in characters.")
    text: str


class FileGiven(Wire):
    """A file: its content in base64, or why it could not be taken (`code` and `reason`)."""

    name: Name = Field(examples=["/srv/handbook/kettles.md"])
    content: Content | None = Field(None, examples=["IyBLZXR0bGVzCg=="])
    media_type: Kind = "application/octet-stream"
    file_stamp: Stamp | None = Field(
        None, description="Names the state of the file on disk, so that it need not be read again."
    )
    code: Code | None = Field(None, examples=["unreachable"])
    reason: Reason | None = Field(None, examples=["Permission denied"])

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.content is None) != (self.code is not None and self.reason is not None):
            raise ValueError("either content, or code and reason")
        if self.content is not None:
            try:
                b64decode(self.content, validate=True)
            except NotBase64:
                raise ValueError("content is no base64") from None
        return self

    def arrival(self, source: str) -> Arrival:
        """The same, as it is taken in."""
        content = None if self.content is None else b64decode(self.content)
        why = (self.code or "", self.reason or "")
        return Arrival(source, self.name, content, self.media_type, self.file_stamp, *why)


class FilesGiven(Wire):
    """Files of one source, that go in together or not at all."""

    source: Source = "folder"
    again: bool = Field(False, description="Read known contents anew, too.")
    files: list[FileGiven] = Field(min_length=1, max_length=ARRIVALS_MAX)


class UrlGiven(Wire):
    """What a URL leads to."""

    url: Annotated[str, StringConstraints(min_length=8, max_length=2_048)] = Field(
        examples=["https://www.example.org/handbook.html"]
    )


class LandedShown(Wire):
    """What became of one file."""

    name: str
    outcome: Literal["new", "changed", "again", "unchanged", "skipped"]
    id: UUID | None

    def landed(self) -> Landed:
        """The same, as it was."""
        return Landed.of(self.name, self.outcome, self.id)


class TakenShown(Wire):
    """What was taken in; `work` reads what is to be read."""

    landed: list[LandedShown]
    work: UUID | None
    token: str | None = Field(description="Of the write.", examples=["1.4711"])

    @classmethod
    def of(cls, taken: Taken) -> Self:
        """As it goes out."""
        landed = [
            LandedShown(name=it.name, outcome=it.outcome.value, id=it.id) for it in taken.landed
        ]
        return cls(landed=landed, work=taken.work, token=taken.token and str(taken.token))


class KnownShown(Wire):
    """What is known of a file."""

    id: UUID
    name: str
    sha256: str | None
    file_stamp: str | None
    state: State
    is_current: bool = Field(description="Whether it was read as documents are read now.")

    @classmethod
    def of(cls, name: str, known: Known) -> Self:
        """As it goes out."""
        return cls(name=name, **known._asdict())

    def known(self) -> Known:
        """The same, as it was."""
        return Known(self.id, self.sha256, self.file_stamp, self.state, self.is_current)


class KnownPage(Wire):
    """Files in the order of their names."""

    items: list[KnownShown]
    next: str | None = Field(description="Pass as `after`; null: no more.")


class FailureShown(Wire):
    """A document that could not be read."""

    id: UUID | None
    name: str
    code: str = Field(examples=["encrypted"])
    reason: str = Field(examples=["it has a password"])


class WorkShown(Wire):
    """How far the reading of some documents is; counts are known once it is over. `moved` chunks
    kept their text, and with it what was made of it.
    """

    is_over: bool
    ready: int
    chunks_new: int
    chunks_moved: int
    chunks_same: int
    chunks_gone: int
    failures: list[FailureShown]

    def work(self) -> Work:
        """The same, as it was."""
        counts = self.model_dump(exclude={"failures"})
        told = [Failure(it.name, it.code, it.reason, it.id) for it in self.failures]
        return Work(**counts, failures=told)


class IdsGiven(Wire):
    """Documents by their ids."""

    ids: Ids


FILES_EXAMPLES: Final[dict[str, Any]] = {
    "two files": {
        "summary": "A file, and one that could not be read",
        "value": {
            "source": "folder",
            "files": [
                {
                    "name": "/srv/handbook/kettles.md",
                    "content": "IyBLZXR0bGVzCgpUaGV5IHdoaXN0bGUuCg==",
                    "media_type": "text/markdown",
                },
                {
                    "name": "/srv/handbook/secret.md",
                    "code": "unreachable",
                    "reason": "Permission denied",
                },
            ],
        },
    }
}
IDS_EXAMPLES: Final[dict[str, Any]] = {
    "one": {
        "summary": "One document",
        "value": {"ids": ["0199f7a2-1c5e-7d10-8a8e-2f8e1f0d9a11"]},
    }
}


class Removed(Wire):
    """How many documents were removed."""

    removed: int


class ReadAgain(Wire):
    """What reads documents anew; null: none of them has to be."""

    work: UUID | None
    token: str | None = None


class Settled(Wire):
    """Whether the vector store shows all that is read by now."""

    is_settled: bool
