"""Objects over the S3 protocol: SeaweedFS, MinIO, Ceph, AWS and whatever else speaks it.

Whole objects are put and read with obstore, which streams without threads. It knows no upload that
another process can go on with, no versions in a listing and no buckets: that is boto3's part, whose
blocking calls run in threads of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

import boto3
import obstore
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from obstore.exceptions import BaseError
from obstore.store import S3Store

from polyplane.errors import Misconfigured, NotFound, Refused, StoreDown
from polyplane.model.scope import Scope
from polyplane.stores.disk import SharedSync
from polyplane.stores.object_protocol import HeldObject, HeldPart, HeldUpload, ObjectStore
from polyplane.stores.objects import s3_bucket
from polyplane.stores.objects.lifecycle import Lifecycle
from polyplane.stores.objects.s3_errors import in_our_words, short

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

THREADS: Final = 8
PIECE_BYTES: Final = 1 << 20
PAGE: Final = 1_000
URL_MAX_S: Final = 15 * 60
_READ_TIMEOUT_S: Final = 60
_CONNECT_TIMEOUT_S: Final = 5
_WHOLE_TIMEOUT: Final = timedelta(hours=12)
"""Of one ranged read, however large; a stall ends after _READ_TIMEOUT_S."""


async def connect(
    url: str,
    *,
    bucket: str,
    region: str = "us-east-1",
    access_key: str = "",
    secret_key: str = "",
    owner_url: str = "",
    path_style: bool = True,
    folder: Path | None = None,
    lifecycle: Lifecycle | None = None,
) -> S3Objects:
    """Open the bucket at the endpoint `http(s)://[key:secret@]host[:port]`.

    `owner_url`: the same for who makes the bucket, if that is somebody else. `folder`: where a
    server of ours keeps its files, if it is one. Raises Misconfigured without
    keys or for a URL that cannot work. Connects on first use.
    """
    endpoint, key, secret = _target(url, access_key, secret_key)
    made = partial(_clients, endpoint, bucket, region, key, secret, path_style)
    owner = None
    if owner_url:
        owner = partial(_client, *_target(owner_url, "", ""), region, path_style)
    try:
        store, client = await asyncio.to_thread(made)
    except (BaseError, BotoCoreError, ValueError) as error:
        raise Misconfigured(f"The object store cannot be opened: {short(error)}.") from error
    return S3Objects(store, client, bucket, folder, lifecycle or Lifecycle(), owner)


def _target(url: str, access_key: str, secret_key: str) -> tuple[str, str, str]:
    """Endpoint, key and secret."""
    where = urlsplit(url)
    access_key = unquote(where.username or "") or access_key
    secret_key = unquote(where.password or "") or secret_key
    if not where.hostname or not (access_key and secret_key):
        raise Misconfigured(
            "The object store needs a host and keys.",
            fix="Set objects_url, objects_access_key and objects_secret_key.",
        )
    return f"{where.scheme}://{where.netloc.rpartition('@')[2]}", access_key, secret_key


def _clients(
    endpoint: str, bucket: str, region: str, access_key: str, secret_key: str, path_style: bool
) -> tuple[S3Store, S3Client]:
    host = urlsplit(endpoint).netloc
    store = S3Store(
        bucket,
        endpoint=endpoint if path_style else endpoint.replace(host, f"{bucket}.{host}"),
        region=region,
        access_key_id=access_key,
        secret_access_key=secret_key,
        virtual_hosted_style_request=not path_style,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
            "read_timeout": timedelta(seconds=_READ_TIMEOUT_S),
            "timeout": _WHOLE_TIMEOUT,
        },
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=30)},
    )
    return store, _client(endpoint, access_key, secret_key, region, path_style)


def _client(
    endpoint: str, access_key: str, secret_key: str, region: str, path_style: bool
) -> S3Client:
    client: S3Client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            signature_version="s3v4",
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_READ_TIMEOUT_S,
            retries={"mode": "standard", "max_attempts": 3},
            max_pool_connections=THREADS,
            # Each body is signed with its SHA-256, which every S3 checks; a CRC besides, which
            # boto3 adds by itself, costs time and proves nothing more.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                "addressing_style": "path" if path_style else "virtual",
                "payload_signing_enabled": True,
            },
        ),
    )
    return client


class S3Objects(ObjectStore):
    """One bucket; made by `connect`."""

    multi_process = True

    def __init__(
        self,
        store: S3Store,
        client: S3Client,
        bucket: str,
        folder: Path | None,
        lifecycle: Lifecycle,
        owner: Callable[[], S3Client] | None = None,
    ) -> None:
        """`owner` makes a client of who may make the bucket, where that is somebody else."""
        self.bucket = bucket
        self._store = store
        self._client = client
        self._lifecycle = lifecycle
        self._owner = owner
        self._sync = SharedSync(folder) if folder is not None else None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="objects")

    async def ping(self) -> None:
        try:
            await self._call(self._client.head_bucket)
        except NotFound:  # it answers; the bucket is made when somebody needs it
            return

    async def barrier(self) -> None:
        """A server of ours writes without fsync. To any other S3 its answer is the barrier."""
        if self._sync is not None:
            try:
                await self._sync.done()
            except OSError as error:
                raise StoreDown(f"The disk of the object store refuses: {error}.") from error

    async def inspect(self) -> list[str]:
        """Its files are the server's own affair."""
        return []

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._client.close)

    async def prepare(self) -> None:
        await self._in_thread(
            lambda: self._as_owner(partial(s3_bucket.prepare, lifecycle=self._lifecycle))
        )

    async def rules(self) -> list[dict[str, Any]]:
        return await self._in_thread(lambda: self._as_owner(s3_bucket.rules))

    def _as_owner(self, work: Callable[[S3Client, str], T]) -> T:
        if self._owner is None:
            return work(self._client, self.bucket)
        client = self._owner()
        try:
            return work(client, self.bucket)
        finally:
            client.close()

    # Whole objects, and reading

    async def put(self, key: str, content: bytes, *, content_type: str) -> HeldObject:
        with in_our_words():
            done = await obstore.put_async(
                self._store,
                key,
                content,
                attributes={"Content-Type": content_type},
                use_multipart=False,
            )
        etag, version = (done["e_tag"] or "").strip('"'), done["version"] or ""
        return HeldObject(key, version, len(content), etag, datetime.now(UTC))

    async def head(self, scope: Scope, key: str, *, version: str | None = None) -> HeldObject:
        scope.check_key(key)
        wanted: Any = {"Key": key} | ({"VersionId": version} if version else {})
        found = await self._call(self._client.head_object, **wanted)
        return HeldObject(
            key,
            found.get("VersionId", ""),
            found["ContentLength"],
            found["ETag"].strip('"'),
            found["LastModified"],
        )

    async def read(
        self,
        scope: Scope,
        key: str,
        *,
        version: str | None = None,
        start: int = 0,
        end: int | None = None,
    ) -> AsyncIterator[bytes]:
        scope.check_key(key)
        if end is not None and start >= end:
            return
        options: Any = {"version": version} if version else {}
        if start or end is not None:
            options["range"] = {"offset": start} if end is None else (start, end)
        with in_our_words():
            found = await obstore.get_async(self._store, key, options=options)
            async for piece in found.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)

    # Uploads in parts

    async def begin(self, key: str, *, content_type: str) -> str:
        begun = await self._call(
            self._client.create_multipart_upload, Key=key, ContentType=content_type
        )
        return str(begun["UploadId"])

    async def put_part(self, key: str, upload: str, number: int, content: bytes) -> HeldPart:
        sent = await self._call(
            self._client.upload_part, Key=key, UploadId=upload, PartNumber=number, Body=content
        )
        return HeldPart(number, len(content), sent["ETag"].strip('"'))

    async def parts(self, key: str, upload: str) -> list[HeldPart]:
        pages = await self._pages("list_parts", Key=key, UploadId=upload)
        return [
            HeldPart(it["PartNumber"], it["Size"], it["ETag"].strip('"'))
            for page in pages
            for it in page.get("Parts", [])
        ]

    async def complete(self, key: str, upload: str, parts: Sequence[HeldPart]) -> None:
        listed = [{"PartNumber": it.number, "ETag": f'"{it.etag}"'} for it in parts]
        await self._call(
            self._client.complete_multipart_upload,
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": listed},
        )

    async def abort(self, key: str, upload: str) -> None:
        try:
            await self._call(self._client.abort_multipart_upload, Key=key, UploadId=upload)
        except NotFound:
            return

    async def uploads(self, key: str = "") -> list[HeldUpload]:
        pages = await self._pages("list_multipart_uploads", Prefix=key)
        return [
            HeldUpload(it["Key"], it["UploadId"], it["Initiated"])
            for page in pages
            for it in page.get("Uploads", [])
            if not key or it["Key"] == key
        ]

    # Versions

    async def versions_of(self, key: str) -> list[HeldObject]:
        pages = await self._pages("list_object_versions", Prefix=key)
        return [it for page in pages for it in _versions(page) if it.key == key]

    async def every(self, *, after: str = "") -> AsyncIterator[list[HeldObject]]:
        marks = {"KeyMarker": after} if after else {}
        while True:
            page = await self._call(self._client.list_object_versions, MaxKeys=PAGE, **marks)
            if found := _versions(page):
                yield found
            if not page.get("IsTruncated"):
                return
            marks = {"KeyMarker": page["NextKeyMarker"]}
            if version := page.get("NextVersionIdMarker"):
                marks["VersionIdMarker"] = version

    async def delete(self, key: str, *, version: str) -> None:
        try:
            await self._call(self._client.delete_object, Key=key, VersionId=version)
        except NotFound:
            return

    # URLs

    def url_to_get(
        self, scope: Scope, key: str, *, version: str | None, expires_s: int, name: str
    ) -> str:
        scope.check_key(key)
        given = {
            "Key": key,
            "ResponseContentDisposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        }
        return self._signed("get_object", expires_s, given | _version(version))

    def url_to_put(
        self, scope: Scope, key: str, *, size: int, content_type: str, expires_s: int
    ) -> str:
        scope.check_key(key)
        given = {"Key": key, "ContentLength": size, "ContentType": content_type}
        return self._signed("put_object", expires_s, given)

    def _signed(self, method: str, expires_s: int, given: dict[str, Any]) -> str:
        if not 1 <= expires_s <= URL_MAX_S:
            raise Refused(f"A URL is good for 1 to {URL_MAX_S} seconds.", field="expires_s")
        return self._client.generate_presigned_url(
            method, Params={"Bucket": self.bucket, **given}, ExpiresIn=expires_s
        )

    # Calls

    async def _call(self, method: Callable[..., T], **given: Any) -> T:
        return await self._in_thread(partial(method, Bucket=self.bucket, **given))

    async def _pages(self, method: Any, **given: Any) -> list[Any]:
        def pages() -> list[Any]:
            return list(self._client.get_paginator(method).paginate(Bucket=self.bucket, **given))

        return await self._in_thread(pages)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        with in_our_words():
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _version(version: str | None) -> dict[str, Any]:
    return {"VersionId": version} if version else {}


def _versions(page: Any) -> list[HeldObject]:
    """Versions and delete markers of one page, in key order."""
    found = [
        HeldObject(
            it["Key"], it["VersionId"], it["Size"], it["ETag"].strip('"'), it["LastModified"]
        )
        for it in page.get("Versions", [])
    ]
    found += [
        HeldObject(it["Key"], it["VersionId"], 0, "", it["LastModified"], gone=True)
        for it in page.get("DeleteMarkers", [])
    ]
    return sorted(found, key=lambda it: it.key)
