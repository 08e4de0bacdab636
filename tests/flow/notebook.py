"""One small application, for the tests of the API and of the command line."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane.web import (
    After,
    Caller,
    Limit,
    Page,
    PlaneOf,
    TokenHeader,
    check_if_match,
    etag_of,
    paginate,
    permission,
    problem_responses,
)


class Note(pp.Model):
    """What is true."""

    __tablename__ = "cli_note"
    metadata = pp.metadata()

    id: Mapped[UUID] = pp.key()
    owner: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(
        sa.DateTime(timezone=True), server_default=sa.func.now()
    )


class Tags(TypedDict):
    """What a search may filter by."""

    owner: str


class NoteSearch(pp.Vectors[Note, Tags]):
    """What follows from it, without an embedder."""

    dimensions = 2

    def derive(self, row: Note, /) -> pp.Vector[Tags]:
        """A vector from the lengths of its texts."""
        embedding = [float(len(row.body)), float(len(row.owner))]
        return pp.Vector(row.body, tags={"owner": row.owner}, embedding=embedding)


class NoteGiven(BaseModel):
    """A note to write."""

    body: str = Field(min_length=1, max_length=1_000)


class NoteShown(NoteGiven):
    """A note as stored."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    owner: str
    created_at: datetime


READ = permission("notebook.read")
WRITE = permission("notebook.write")
router = APIRouter()


@router.post("/notes", dependencies=[WRITE], status_code=201)
async def create(given: NoteGiven, plane: PlaneOf, caller: Caller, token: TokenHeader) -> NoteShown:
    """Write a note."""
    note = Note(owner=caller.actor, body=given.body)
    async with plane.write(actor=caller.actor, tenant=caller.tenant) as tx:
        tx.add(note)
        await tx.flush()
        await tx.session.refresh(note)
    token.give(tx.token)
    return NoteShown.model_validate(note)


@router.get("/notes", dependencies=[READ])
async def list_(plane: PlaneOf, after: After = None, limit: Limit = 50) -> Page[NoteShown]:
    """Notes, newest first."""
    async with plane.read() as session:
        rows, cursor = await paginate(session, sa.select(Note), Note, after, limit)
    return Page(items=[NoteShown.model_validate(row) for row in rows], next=cursor)


@router.get("/notes/{key}", dependencies=[READ], responses=problem_responses(404))
async def read(key: UUID, plane: PlaneOf, response: Response) -> NoteShown:
    """One note."""
    async with plane.read() as session:
        note = await session.get(Note, key)
    if note is None:
        raise pp.NotFound("There is no such note.")
    response.headers["ETag"] = etag_of(note)
    return NoteShown.model_validate(note)


@router.put("/notes/{key}", dependencies=[WRITE], responses=problem_responses(404, 412))
async def change(
    key: UUID, given: NoteGiven, plane: PlaneOf, request: Request, token: TokenHeader
) -> None:
    """Another body, if it is still the version of If-Match."""
    async with plane.write(actor="test") as tx:
        note = await tx.get(Note, key, for_update=True)
        if note is None:
            raise pp.NotFound("There is no such note.")
        check_if_match(request, note)
        note.body = given.body
    token.give(tx.token)


@router.get("/search", dependencies=[READ])
async def search(plane: PlaneOf, token: TokenHeader) -> list[str]:
    """The bodies of the notes, from the vector store."""
    await token.wait(NoteSearch)
    return [hit.text for hit in await plane[NoteSearch].search([1.0, 1.0], limit=100)]


application = pp.Application(
    name="notebook",
    models=[Note],
    projections=[NoteSearch],
    routes=lambda: router,
    permissions={"notebook.read": "viewer", "notebook.write": "editor"},
)
