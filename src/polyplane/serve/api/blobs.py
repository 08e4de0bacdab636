"""Files over HTTP: streamed in and out, a megabyte at a time. For the operator of the home.

Applications give people routes of their own; these are for programs of the operator, the command
line among them.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from polyplane.errors import Refused
from polyplane.model.blob import Blob, BlobState
from polyplane.reconcile.collect import Collected
from polyplane.runtime.blobs import URL_S
from polyplane.security.roles import OPERATE
from polyplane.serve.api.acts import Operator
from polyplane.serve.api.body import FILES
from polyplane.serve.api.ranges import Span, matches, span_of
from polyplane.web import Caller, PlaneOf, permission, problem_responses, within

TRANSFER_TIMEOUT_S: Final = 12 * 3600.0
BODY_MAX_BYTES: Final = 4 << 40
GRACE_MAX_S: Final = 10 * 366 * 86_400.0

router = APIRouter(
    tags=[FILES],
    dependencies=[permission(OPERATE)],
    responses=problem_responses(401, 403, 404),
    max_body_size=BODY_MAX_BYTES,
)

Body: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}

ContentDigest = Annotated[
    str | None,
    Header(alias="Content-Digest", description="`sha-256=:<base64>:`; it is checked if given."),
]


class BlobShape(BaseModel):
    """A blob, as truth knows it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str = Field(examples=["map.png"])
    content_type: str = Field(examples=["image/png"])
    state: BlobState
    created_at: datetime
    committed_at: datetime | None = None
    expires_at: datetime | None = Field(default=None, description="Of a pending one.")
    size: int | None = None
    sha256: str | None = Field(default=None, description="Of the content, in hexadecimal.")
    key: str = Field(description="Of the object; blobs of one content share it.")
    version: str | None = None
    fault: str = Field(default="", description="`lost` or `damaged`, if it is.")


class BlobPage(BaseModel):
    """The newest blobs, of those older than `after`."""

    items: list[BlobShape]
    next: UUID | None = Field(default=None, description="Pass as `after` for the next page.")


class Url(BaseModel):
    """A URL that is good for one method, one object and a short time."""

    url: str
    expires_s: int


class UploadShape(BaseModel):
    """Where to PUT one content, with exactly these headers."""

    blob: UUID
    url: str
    headers: dict[str, str]
    expires_at: datetime


@router.post(
    "",
    status_code=201,
    summary="Put a file",
    openapi_extra=Body,
    dependencies=[within(TRANSFER_TIMEOUT_S)],
    responses=problem_responses(409, 413),
)
async def put(
    plane: PlaneOf,
    caller: Caller,
    request: Request,
    response: Response,
    name: Annotated[str, Query(max_length=1_024, description="What people call it.")] = "",
    content_digest: ContentDigest = None,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> BlobShape:
    """The body is the file, of any size. Answers when it is durable.

    The same Idempotency-Key again answers with the same blob, or goes on with its upload: no part
    that arrived is stored twice.
    """
    blob = await plane.blobs.put(
        request.stream(),
        name=name,
        content_type=request.headers.get("content-type") or "application/octet-stream",
        tenant=caller.tenant,
        actor=caller.actor,
        sha256=_sha256(content_digest),
        key=idempotency_key,
    )
    response.headers["Location"] = f"{request.url.path}/{blob.id}"
    response.headers["ETag"] = f'"{blob.sha256}"'
    return BlobShape.model_validate(blob)


@router.put(
    "/{blob_id}",
    summary="Go on with an upload",
    openapi_extra=Body,
    dependencies=[within(TRANSFER_TIMEOUT_S)],
    responses=problem_responses(409, 413),
)
async def resume(
    plane: PlaneOf,
    caller: Caller,
    request: Request,
    blob_id: UUID,
    content_digest: ContentDigest = None,
) -> BlobShape:
    """The body is the whole file again; what is stored of it is only compared."""
    blob = await plane.blobs.resume(
        blob_id,
        request.stream(),
        tenant=caller.tenant,
        actor=caller.actor,
        sha256=_sha256(content_digest),
    )
    return BlobShape.model_validate(blob)


@router.get("", summary="The newest files")
async def list_(
    plane: PlaneOf,
    caller: Caller,
    state: Annotated[Sequence[BlobState], Query(description="In these states.")] = (
        BlobState.COMMITTED,
    ),
    after: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> BlobPage:
    """Page by page."""
    found = await plane.blobs.list(tenant=caller.tenant, states=state, after=after, limit=limit)
    items = [BlobShape.model_validate(it) for it in found]
    return BlobPage(items=items, next=items[-1].id if len(items) == limit else None)


@router.get("/{blob_id}/about", summary="What is known of a file")
async def about(plane: PlaneOf, caller: Caller, blob_id: UUID) -> BlobShape:
    """Its digest, size, type and object."""
    return BlobShape.model_validate(await plane.blobs.head(blob_id, tenant=caller.tenant))


@router.get(
    "/{blob_id}",
    summary="Read a file, or a range of it",
    response_class=StreamingResponse,
    dependencies=[within(TRANSFER_TIMEOUT_S)],
    responses={206: {"description": "The range."}, **problem_responses(410, 416)},
)
async def read(plane: PlaneOf, caller: Caller, request: Request, blob_id: UUID) -> Response:
    """One range is understood (`bytes=0-99`, `bytes=100-`, `bytes=-100`), with If-Range."""
    blob = await plane.blobs.head(blob_id, tenant=caller.tenant)
    return _content(request, blob, plane.blobs.open)


@router.head("/{blob_id}", summary="As GET, without the file", response_class=Response)
async def head(plane: PlaneOf, caller: Caller, request: Request, blob_id: UUID) -> Response:
    """Size, type and ETag."""
    blob = await plane.blobs.head(blob_id, tenant=caller.tenant)
    return _content(request, blob, None)


@router.delete(
    "/{blob_id}", status_code=204, summary="Delete a file", responses=problem_responses(409)
)
async def delete(plane: PlaneOf, caller: Caller, by: Operator, blob_id: UUID) -> None:
    """409 while a row refers to it. The object goes when it is collected."""
    await plane.blobs.delete(blob_id, tenant=caller.tenant, by=by)


@router.post("/{blob_id}/url", summary="A URL to GET a file with")
async def url(
    plane: PlaneOf,
    caller: Caller,
    by: Operator,
    blob_id: UUID,
    expires_s: Annotated[int, Query(ge=1, le=900)] = URL_S,
) -> Url:
    """For somebody without keys, past us; this one object, GET only, 15 minutes at most."""
    made = await plane.blobs.url(blob_id, tenant=caller.tenant, expires_s=expires_s, by=by)
    return Url(url=made, expires_s=expires_s)


@router.post("/urls", status_code=201, summary="A URL to PUT a file with")
async def upload_url(
    plane: PlaneOf,
    caller: Caller,
    by: Operator,
    size: Annotated[int, Query(ge=0, le=5 << 30, description="Exactly so many bytes.")],
    name: Annotated[str, Query(max_length=1_024)] = "",
    content_type: Annotated[str, Query(max_length=255)] = "application/octet-stream",
    expires_s: Annotated[int, Query(ge=1, le=900)] = URL_S,
) -> UploadShape:
    """Under a key of ours. It is a blob once it is confirmed."""
    made = await plane.blobs.upload_url(
        name, size, content_type=content_type, tenant=caller.tenant, expires_s=expires_s, by=by
    )
    return UploadShape(**asdict(made))


@router.post(
    "/{blob_id}/confirm",
    summary="Commit what was put by a URL",
    dependencies=[within(TRANSFER_TIMEOUT_S)],
    responses=problem_responses(409),
)
async def confirm(
    plane: PlaneOf, caller: Caller, blob_id: UUID, content_digest: ContentDigest = None
) -> BlobShape:
    """Reads it once, for its digest."""
    blob = await plane.blobs.confirm(blob_id, tenant=caller.tenant, sha256=_sha256(content_digest))
    return BlobShape.model_validate(blob)


@router.post(
    "/collect",
    summary="Take away objects that nobody needs",
    dependencies=[within(TRANSFER_TIMEOUT_S)],
)
async def collect(
    plane: PlaneOf,
    by: Operator,
    grace_s: Annotated[
        float, Query(ge=0, le=GRACE_MAX_S, description="Not needed for so long.")
    ] = 24 * 3600.0,
    dry: Annotated[bool, Query(description="Only count them.")] = False,
) -> Collected:
    """Of deleted blobs, of uploads that were given up, and of nobody."""
    if dry:
        return await plane.blobs.collect(grace_s=grace_s, dry=True)
    async with plane.audit.act(by, "blobs.collect", "blobs", detail={"grace_s": grace_s}):
        return await plane.blobs.collect(grace_s=grace_s)


def _content(request: Request, blob: Blob, opened: Any) -> Response:
    """The file, a range of it, or only its headers."""
    assert blob.size is not None
    etag = f'"{blob.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Type": blob.content_type,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(blob.name, safe='')}",
    }
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    span = Span(0, blob.size, is_part=False)
    if request.headers.get("if-range", etag) == etag:
        span = span_of(request.headers.get("range"), blob.size)
    if span.is_part:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{blob.size}"
    headers["Content-Length"] = str(span.end - span.start)
    status = 206 if span.is_part else 200
    if opened is None:
        return Response(status_code=status, headers=headers)
    pieces: AsyncIterator[bytes] = opened(blob, start=span.start, end=span.end)
    return StreamingResponse(pieces, status, headers=headers)


def _sha256(content_digest: str | None) -> str | None:
    """The SHA-256 of a Content-Digest (RFC 9530), in hexadecimal."""
    if content_digest is None:
        return None
    for one in content_digest.split(","):
        name, _, value = one.strip().partition("=")
        if name.lower() == "sha-256" and value.startswith(":") and value.endswith(":"):
            try:
                return b64decode(value[1:-1], validate=True).hex()
            except NotBase64:
                break
    raise Refused("It has no SHA-256, as in sha-256=:<base64>:.", field="Content-Digest")
