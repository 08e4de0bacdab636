"""Documents over HTTP: taken in, listed, read in place, read anew and removed."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Body, Header, Query, Request, Response

import polyplane as pp
from polyplane.domains.assistant import keeping, reading, removing
from polyplane.domains.assistant.arrivals import Arrival, Taken
from polyplane.domains.assistant.models import NAME_BYTES_MAX, Document
from polyplane.domains.assistant.permissions import READ, WRITE
from polyplane.domains.assistant.processing import work_of
from polyplane.domains.assistant.projections import DocumentChunks, ProcessedDocuments
from polyplane.domains.assistant.room import LIMITS
from polyplane.domains.assistant.shapes import (
    FILES_EXAMPLES,
    IDS_EXAMPLES,
    ChunkPage,
    ChunkShown,
    DocumentShown,
    FilesGiven,
    IdsGiven,
    KnownPage,
    KnownShown,
    ReadAgain,
    Removed,
    Settled,
    Source,
    State,
    TakenShown,
    TextShown,
    UrlGiven,
    WorkShown,
)
from polyplane.web import (
    After,
    Caller,
    Fetcher,
    Limit,
    Page,
    PlaneOf,
    Rules,
    TokenHeader,
    check_if_match,
    etag_of,
    limited,
    paginate,
    problem_responses,
    repeatable,
    within,
)

TAKE_TIMEOUT_S: Final = 120.0
UPLOAD_TIMEOUT_S: Final = 600.0
WAIT_MAX_S: Final = 20.0
TEXT_MAX: Final = 100_000
KNOWN_MAX: Final = 5_000
FETCHED_BYTES_MAX: Final = 16 << 20

# A file may be larger than other bodies; what is no JSON is not looked into.
router = APIRouter(prefix="/documents", max_body_size=LIMITS.file_bytes)

_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_DocumentName = Annotated[
    str,
    Query(
        min_length=1,
        max_length=NAME_BYTES_MAX,
        description="What it is called; the same name again is the same document.",
        examples=["kettles.md"],
    ),
]
_Start = Annotated[int, Query(ge=0, le=2**31 - 1, description="In characters.")]
_Shared = Annotated[
    bool, Query(description="For everybody in the tenant; else a person's are theirs alone.")
]


@router.post(
    "",
    dependencies=[WRITE, repeatable, within(UPLOAD_TIMEOUT_S), limited(600, 60)],
    status_code=201,
    summary="Upload a document",
    openapi_extra=_BODY,
    responses=problem_responses(409, 413),
)
async def upload_document(
    plane: PlaneOf,
    caller: Caller,
    request: Request,
    token: TokenHeader,
    name: _DocumentName,
    source: Annotated[Source, Query()] = "upload",
    file_stamp: Annotated[str | None, Query(min_length=1, max_length=100)] = None,
    shared: _Shared = False,
    content_type: Annotated[str, Header(max_length=120)] = "application/octet-stream",
) -> TakenShown:
    """The body is the file, of at most 64 MiB. It is durable when this answers, and read after
    that: see `work`. Another content under the same name takes the place of the one before.
    """
    content = await _content(request)
    kind = content_type.partition(";")[0].strip() or "application/octet-stream"
    arrival = Arrival(source, name, content, kind, file_stamp)
    owner = None if shared else caller.user
    taken = await keeping.take(plane, caller, [arrival], owner=owner)
    return _given(token, taken)


@router.post(
    "/batch",
    dependencies=[WRITE, repeatable, within(TAKE_TIMEOUT_S), limited(6_000, 60)],
    responses=problem_responses(409, 413),
)
async def take_documents(
    files: Annotated[FilesGiven, Body(openapi_examples=FILES_EXAMPLES)],
    plane: PlaneOf,
    caller: Caller,
    token: TokenHeader,
    shared: _Shared = True,
) -> TakenShown:
    """Many small files in one transaction. A repetition changes nothing."""
    arrivals = await asyncio.to_thread(lambda: [it.arrival(files.source) for it in files.files])
    owner = None if shared else caller.user
    taken = await keeping.take(plane, caller, arrivals, owner=owner, again=files.again)
    return _given(token, taken)


@router.post(
    "/url",
    dependencies=[WRITE, repeatable, within(TAKE_TIMEOUT_S), limited(60, 60)],
    status_code=201,
    responses=problem_responses(409, 413),
)
async def fetch_document(
    given: UrlGiven, plane: PlaneOf, caller: Caller, token: TokenHeader, shared: _Shared = False
) -> TakenShown:
    """What a URL of the public internet leads to, now; again, when it is asked for again."""
    fetched = await Fetcher(Rules(types=("",), bytes_max=FETCHED_BYTES_MAX)).fetch(given.url)
    kind = fetched.content_type.partition(";")[0].strip()[:120] or "application/octet-stream"
    arrival = Arrival("url", given.url, fetched.body, kind)
    owner = None if shared else caller.user
    return _given(token, await keeping.take(plane, caller, [arrival], owner=owner))


@router.get("", dependencies=[READ])
async def list_documents(
    plane: PlaneOf,
    caller: Caller,
    state: State | None = None,
    source: Source | None = None,
    name: Annotated[
        str | None, Query(max_length=NAME_BYTES_MAX, description="What their names begin with.")
    ] = None,
    after: After = None,
    limit: Limit = 50,
) -> Page[DocumentShown]:
    """Documents, newest first."""
    it = Document
    query = sa.select(it).where(it.tenant_id == caller.tenant)
    if state is not None:
        query = query.where(it.state == state)
    if source is not None:
        query = query.where(it.source == source)
    if name is not None:
        query = query.where(it.name.startswith(name, autoescape=True))
    async with plane.acting(caller).read() as session:
        rows, cursor = await paginate(session, query, it, after, limit)
    return Page(items=[DocumentShown.model_validate(row) for row in rows], next=cursor)


@router.get("/known", dependencies=[READ])
async def list_known(
    plane: PlaneOf,
    caller: Caller,
    source: Source = "folder",
    below: Annotated[str, Query(max_length=NAME_BYTES_MAX)] = "",
    after: Annotated[str, Query(max_length=NAME_BYTES_MAX)] = "",
    limit: Annotated[int, Query(ge=1, le=KNOWN_MAX)] = 1_000,
) -> KnownPage:
    """What is known of everybody's files whose names begin with `below`, by name."""
    found = await keeping.known_below(plane, caller, source, below, after=after, limit=limit)
    items = [KnownShown.of(name, known) for name, known in found.items()]
    return KnownPage(items=items, next=items[-1].name if len(items) == limit else None)


@router.get(
    "/readings/{work_id}",
    dependencies=[READ, within(WAIT_MAX_S + 30)],
    responses=problem_responses(404),
)
async def read_work(
    work_id: UUID,
    plane: PlaneOf,
    caller: Caller,
    wait_s: Annotated[float, Query(ge=0, le=WAIT_MAX_S, allow_inf_nan=False)] = 0,
) -> WorkShown:
    """How far the reading of documents is; waits for its end, but not longer than `wait_s`."""
    return WorkShown.model_validate(await work_of(plane, caller, work_id, wait_s=wait_s))


@router.post("/settle", dependencies=[READ, within(WAIT_MAX_S + 30)])
async def settle(
    plane: PlaneOf,
    wait_s: Annotated[float, Query(ge=0, le=WAIT_MAX_S, allow_inf_nan=False)] = 10,
) -> Settled:
    """Wait until what is read by now can be found, but not longer than `wait_s`."""
    try:
        await plane.caught_up(ProcessedDocuments, DocumentChunks, timeout_s=wait_s)
    except pp.NotSettled:
        return Settled(is_settled=False)
    return Settled(is_settled=True)


@router.post(
    "/remove",
    dependencies=[WRITE, repeatable, within(TAKE_TIMEOUT_S)],
    responses=problem_responses(409),
)
async def remove_documents(
    given: Annotated[IdsGiven, Body(openapi_examples=IDS_EXAMPLES)],
    plane: PlaneOf,
    caller: Caller,
    token: TokenHeader,
) -> Removed:
    """Remove documents with their chunks, files and all that follows; what is none counts 0."""
    removed, written = await removing.remove(plane, caller, given.ids)
    token.give(written)
    return Removed(removed=removed)


@router.post(
    "/read-again",
    dependencies=[WRITE, repeatable, within(TAKE_TIMEOUT_S)],
    responses=problem_responses(409),
)
async def read_documents_again(
    given: Annotated[IdsGiven, Body(openapi_examples=IDS_EXAMPLES)],
    plane: PlaneOf,
    caller: Caller,
    token: TokenHeader,
) -> ReadAgain:
    """Read documents anew from the files that are kept: with other sizes, or a better parser. Only
    what changes by that is written.
    """
    work, written = await keeping.read_again(plane, caller, given.ids)
    token.give(written)
    return ReadAgain(work=work, token=written and str(written))


@router.get("/{document_id}", dependencies=[READ], responses=problem_responses(404))
async def read_document(
    document_id: UUID, plane: PlaneOf, caller: Caller, response: Response
) -> DocumentShown:
    """One document."""
    async with plane.acting(caller).read() as session:
        row = await reading.document(session, caller.tenant, document_id)
    response.headers["ETag"] = etag_of(row)
    return DocumentShown.model_validate(row)


@router.delete(
    "/{document_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_document(
    document_id: UUID, plane: PlaneOf, caller: Caller, request: Request, token: TokenHeader
) -> None:
    """Remove a document with its chunks, its file and all that follows."""

    def check(row: Document) -> None:
        check_if_match(request, row)

    token.give(await removing.remove_one(plane, caller, document_id, check))


@router.post(
    "/{document_id}/read-again",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409),
)
async def read_document_again(
    document_id: UUID, plane: PlaneOf, caller: Caller, token: TokenHeader
) -> ReadAgain:
    """Read one document anew from the file that is kept."""
    async with plane.acting(caller).read() as session:
        await reading.document(session, caller.tenant, document_id)
    work, written = await keeping.read_again(plane, caller, [document_id])
    token.give(written)
    return ReadAgain(work=work, token=written and str(written))


@router.get("/{document_id}/chunks", dependencies=[READ], responses=problem_responses(404))
async def list_chunks(
    document_id: UUID,
    plane: PlaneOf,
    caller: Caller,
    after: Annotated[int, Query(ge=-1, le=2**31 - 1, description="Behind this ordinal.")] = -1,
    limit: Limit = 50,
) -> ChunkPage:
    """Chunks of a document in their order."""
    async with plane.acting(caller).read() as session:
        rows = await reading.chunks(session, caller.tenant, document_id, after=after, limit=limit)
    items = [ChunkShown.model_validate(row) for row in rows]
    return ChunkPage(items=items, next=items[-1].ordinal if len(items) == limit else None)


@router.get("/{document_id}/text", dependencies=[READ], responses=problem_responses(404))
async def read_text(
    document_id: UUID,
    plane: PlaneOf,
    caller: Caller,
    start: _Start = 0,
    end: Annotated[
        int | None, Query(ge=0, le=2**31 - 1, description="And without that; at most 100,000.")
    ] = None,
) -> TextShown:
    """The text of a document, or the part in which something was found."""
    async with plane.acting(caller).read() as session:
        row = await reading.document(session, caller.tenant, document_id)
        last = min(row.text_length, start + TEXT_MAX, row.text_length if end is None else end)
        text = await reading.text(session, caller.tenant, document_id, start, last)
    return TextShown(start=start, end=max(start, last), length=row.text_length, text=text)


def _given(token: TokenHeader, taken: Taken) -> TakenShown:
    token.give(taken.token)
    return TakenShown.of(taken)


async def _content(request: Request) -> bytes:
    """The body. What is larger than a route takes is refused on the way."""
    return b"".join([piece async for piece in request.stream()])
