"""Files over HTTP: streamed, in ranges, checked, and only for who may."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
import pytest

from polyplane import Plane
from polyplane.model.blob import PART_BYTES
from polyplane.serve.token import ops_token
from tests.conftest import PlaneOf
from tests.flow.albums import Picture, bucket_of, content, digest, pieces

BLOBS = "/api/v1/blobs"
CLIENT = Callable[[Plane], httpx.AsyncClient]


@pytest.fixture
async def plane(plane_of: PlaneOf) -> Plane:
    """A plane that keeps files."""
    return await plane_of(models=[Picture])


@pytest.fixture
async def api(plane: Plane, client_of: CLIENT) -> AsyncIterator[httpx.AsyncClient]:
    """Its API, as the operator."""
    client = client_of(plane)
    client.headers["Authorization"] = f"Bearer {ops_token(plane.settings.home)}"
    yield client


def said(whole: bytes) -> dict[str, str]:
    """Its digest, as RFC 9530 writes it."""
    return {"Content-Digest": f"sha-256=:{b64encode(sha256(whole).digest()).decode()}:"}


async def put(api: httpx.AsyncClient, whole: bytes, **headers: str) -> dict[str, Any]:
    """Put one file."""
    answer = await api.post(BLOBS, content=pieces(whole), headers=headers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_large_file_goes_in_and_out(api: httpx.AsyncClient, plane: Plane) -> None:
    whole = content(PART_BYTES + 777)
    answer = await api.post(
        BLOBS,
        params={"name": "ä.bin"},
        content=pieces(whole),
        headers={"Content-Type": "application/json", **said(whole)},
    )
    assert answer.status_code == 201
    about = answer.json()
    assert (about["size"], about["sha256"], about["name"]) == (len(whole), digest(whole), "ä.bin")
    assert answer.headers["location"] == f"{BLOBS}/{about['id']}"
    got = await api.get(answer.headers["location"])
    assert got.content == whole
    assert got.headers["etag"] == answer.headers["etag"] == f'"{digest(whole)}"'
    assert got.headers["content-type"] == "application/json"
    assert "%C3%A4.bin" in got.headers["content-disposition"]
    assert (await api.get(f"{BLOBS}/{about['id']}/about")).json() == about


async def test_ranges(api: httpx.AsyncClient) -> None:
    whole = content(2_000_000)
    about = await put(api, whole)
    url, size, etag = f"{BLOBS}/{about['id']}", len(whole), f'"{about["sha256"]}"'
    for asked, start, end in (
        ("bytes=0-99", 0, 100),
        ("bytes=1999990-", 1_999_990, size),
        ("bytes=-5", size - 5, size),
        ("bytes=10-99999999", 10, size),
    ):
        part = await api.get(url, headers={"Range": asked})
        assert part.status_code == 206
        assert part.content == whole[start:end]
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        head = await api.head(url, headers={"Range": asked})
        assert (head.status_code, head.content) == (206, b"")
        assert head.headers["content-length"] == str(end - start)
    for asked in ("bytes=2000000-", "bytes=-0"):
        refused = await api.get(url, headers={"Range": asked})
        assert refused.status_code == 416
        assert refused.json()["type"].endswith("out-of-range")
    for asked in ("bytes=5-1", "bytes=0-1,5-6", "lines=1-2", "bytes=-"):
        assert (await api.get(url, headers={"Range": asked})).status_code == 200
    changed = {"Range": "bytes=0-0", "If-Range": '"other"'}
    assert (await api.get(url, headers=changed)).status_code == 200
    assert (await api.get(url, headers=changed | {"If-Range": etag})).status_code == 206
    assert (await api.get(url, headers={"If-None-Match": etag})).status_code == 304
    assert (await api.head(url)).headers["content-length"] == str(size)


async def test_a_wrong_digest_is_refused(api: httpx.AsyncClient, plane: Plane) -> None:
    wrong = await api.post(BLOBS, content=b"hello", headers=said(b"other"))
    assert (wrong.status_code, wrong.json()["field"]) == (422, "sha256")
    for odd in ("md5=:AAAA:", "sha-256=:***:", "sha-256=AAAA"):
        assert (
            await api.post(BLOBS, content=b"x", headers={"Content-Digest": odd})
        ).status_code == 422
    assert bucket_of(plane).versions() == []


async def test_the_same_key_again_is_the_same_blob(api: httpx.AsyncClient) -> None:
    once = await put(api, b"hello", **{"Idempotency-Key": "k"})
    assert await put(api, b"hello", **{"Idempotency-Key": "k"}) == once
    assert (await api.put(f"{BLOBS}/{once['id']}", content=b"hello")).json() == once
    other = {"Idempotency-Key": "k", **said(b"other")}
    assert (await api.post(BLOBS, content=b"other", headers=other)).status_code == 409


async def test_pages_deleting_and_urls(api: httpx.AsyncClient, plane: Plane) -> None:
    ids = [(await put(api, str(n).encode()))["id"] for n in range(5)]
    seen: list[str] = []
    after = None
    while True:
        asked = {"limit": "2"} | ({"after": after} if after else {})
        page = (await api.get(BLOBS, params=asked)).json()
        seen += [it["id"] for it in page["items"]]
        if (after := page["next"]) is None:
            break
    assert seen == ids[::-1]
    url = (await api.post(f"{BLOBS}/{ids[0]}/url", params={"expires_s": 60})).json()["url"]
    async with httpx.AsyncClient(trust_env=False) as stranger:
        assert (await stranger.get(url)).content == b"0"
        made = (await api.post(f"{BLOBS}/urls", params={"size": 3, "name": "n"})).json()
        await stranger.put(made["url"], content=b"abc", headers=made["headers"])
    confirmed = await api.post(f"{BLOBS}/{made['blob']}/confirm", headers=said(b"abc"))
    assert (confirmed.status_code, confirmed.json()["size"]) == (200, 3)
    assert (await api.delete(f"{BLOBS}/{ids[0]}")).status_code == 204
    assert (await api.get(f"{BLOBS}/{ids[0]}")).status_code == 404
    async with plane.write(actor="ada") as tx:
        tx.add(Picture(title="t", file=ids[1]))
    assert (await api.delete(f"{BLOBS}/{ids[1]}")).status_code == 409
    looked = (await api.post(f"{BLOBS}/collect", params={"grace_s": 0, "dry": True})).json()
    done = (await api.post(f"{BLOBS}/collect", params={"grace_s": 0})).json()
    assert looked["objects"] == done["objects"] == 1


async def test_who_may_and_whose(api: httpx.AsyncClient) -> None:
    about = await put(api, b"hello", **{"X-Tenant": "acme"})
    url = f"{BLOBS}/{about['id']}"
    assert (await api.get(url)).status_code == 404
    assert (await api.get(url, headers={"X-Tenant": "acme"})).content == b"hello"
    assert (await api.get(f"{BLOBS}/{uuid4()}")).status_code == 404
    api.headers.pop("Authorization")
    for answer in (await api.get(url), await api.post(BLOBS, content=b"x")):
        assert answer.status_code == 401


async def test_a_lost_file_is_gone_and_said_so(api: httpx.AsyncClient, plane: Plane) -> None:
    about = await put(api, b"hello")
    bucket_of(plane).remove(about["key"], about["version"])
    await plane.repair()
    answer = await api.get(f"{BLOBS}/{about['id']}")
    assert (answer.status_code, answer.json()["type"][-11:]) == (410, "object-lost")
    found = (await api.post("/api/v1/ops/verify", params={"projection": "blobs"})).json()
    assert (found["missing"], found["blobs"][0]["lost"]) == (1, [about["id"]])
