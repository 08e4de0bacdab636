"""Documents over HTTP: taken in, shown in place, read anew, removed; to whom they belong."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any
from uuid import uuid4

from httpx import AsyncClient

import polyplane as pp
from polyplane.domains.assistant import keeping
from polyplane.domains.assistant.arrivals import Arrival
from polyplane.domains.assistant.course import Wanted
from polyplane.domains.assistant.over_routes import ingest_over
from polyplane.domains.assistant.processing import work_of
from polyplane.domains.assistant.projections import DocumentChunks

TEXT = (
    "# Kettles\n\nThey whistle: größer and 日本.\n\n" + "## Repair\n\n" + "Solder the leak. " * 120
)
WAIT = {"wait_s": 20}
ROOT = "http://127.0.0.1/api/v1/"


async def upload(client: AsyncClient, name: str, text: str, **headers: str) -> dict[str, Any]:
    """What became of it, when it is read."""
    kind = {"Content-Type": "text/markdown"}
    answer = await client.post(
        "documents", params={"name": name}, content=text.encode(), headers=kind | headers
    )
    assert answer.status_code == 201, answer.text
    taken: dict[str, Any] = answer.json()
    if taken["work"]:
        work = await client.get(f"documents/readings/{taken['work']}", params=WAIT)
        assert work.json()["is_over"], work.text
    return taken


async def test_a_document_from_upload_to_removal(client: AsyncClient) -> None:
    taken = await upload(client, "kettles.md", TEXT)
    (landed,) = taken["landed"]
    assert landed["outcome"] == "new"
    path = f"documents/{landed['id']}"
    answer = await client.get(path)
    shown, etag = answer.json(), answer.headers["ETag"]
    assert (shown["state"], shown["title"]) == ("ready", "Kettles")
    assert shown["owner_id"] is None  # the operator is nobody in the tenant
    page = (await client.get(f"{path}/chunks", params={"limit": 1})).json()
    assert page["next"] == 0
    rest = (await client.get(f"{path}/chunks", params={"after": page["next"]})).json()
    chunks = page["items"] + rest["items"]
    assert len(chunks) == shown["chunk_count"] > 1
    whole = (await client.get(f"{path}/text")).json()
    assert (whole["length"], whole["end"]) == (shown["text_length"],) * 2
    for chunk in chunks:
        place = {"start": chunk["start_at"], "end": chunk["end_at"]}
        assert (await client.get(f"{path}/text", params=place)).json()["text"] == chunk["text"]
    at = whole["text"].index("größer")
    found = (await client.get(f"{path}/text", params={"start": at, "end": at + 6})).json()
    assert found == {"start": at, "end": at + 6, "length": whole["length"], "text": "größer"}
    beyond = (await client.get(f"{path}/text", params={"start": 10**6})).json()
    assert (beyond["text"], beyond["start"], beyond["end"]) == ("", 10**6, 10**6)

    assert (await upload(client, "kettles.md", TEXT))["landed"][0]["outcome"] == "unchanged"
    again = (await client.post(f"{path}/read-again")).json()
    work = (await client.get(f"documents/readings/{again['work']}", params=WAIT)).json()
    assert (work["ready"], work["chunks_same"]) == (1, len(chunks))
    changed = await upload(client, "kettles.md", TEXT + "\n\nMore.\n")
    assert changed["landed"] == [{"name": "kettles.md", "outcome": "changed", "id": landed["id"]}]

    assert (await client.delete(path, headers={"If-Match": etag})).status_code == 412
    assert (await client.delete(path)).status_code == 204
    for gone in (path, f"{path}/chunks", f"{path}/text"):
        assert (await client.get(gone)).status_code == 404
    assert (await client.delete(path)).status_code == 404


async def test_many_go_in_together_or_not_at_all(client: AsyncClient) -> None:
    def file(name: str, text: str) -> dict[str, str]:
        return {"name": name, "content": b64encode(text.encode()).decode()}

    files = [file(f"/srv/{n}.md", f"# Page {n}\n\nText.\n") for n in range(3)]
    files.append({"name": "/srv/no.md", "code": "unreachable", "reason": "Permission denied"})
    taken = (await client.post("documents/batch", json={"files": files})).json()
    assert [it["outcome"] for it in taken["landed"]] == ["new"] * 4
    work = (await client.get(f"documents/readings/{taken['work']}", params=WAIT)).json()
    assert (work["is_over"], work["ready"]) == (True, 3)
    assert (await client.post("documents/settle", params=WAIT)).json() == {"is_settled": True}
    known = (await client.get("documents/known", params={"below": "/srv/", "limit": 3})).json()
    assert [it["name"] for it in known["items"]] == [f"/srv/{n}.md" for n in range(3)]
    assert known["next"] == "/srv/2.md"
    failed = (await client.get("documents", params={"state": "failed", "name": "/srv"})).json()
    assert [it["failure_code"] for it in failed["items"]] == ["unreachable"]

    for wrong in (
        [file("/srv/x.md", "x"), file("/srv/x.md", "y")],
        [{"name": "/srv/x.md", "content": "no base64"}],
        [{"name": "/srv/x.md"}],
        [{"name": "", "content": ""}],
    ):
        assert (await client.post("documents/batch", json={"files": wrong})).status_code == 422
    ids = [it["id"] for it in taken["landed"]] + [str(uuid4())]
    assert (await client.post("documents/remove", json={"ids": ids})).json() == {"removed": 4}
    assert (await client.get("documents")).json()["items"] == []


async def test_no_route_is_sent_into_our_own_network(client: AsyncClient) -> None:
    for url in ("http://127.0.0.1:9/", "file:///etc/passwd", "http://10.0.0.1/"):
        assert (await client.post("documents/url", json={"url": url})).status_code == 422


async def test_a_repetition_changes_nothing(client: AsyncClient) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    first = await upload(client, "a.md", "# A\n\nOne.\n", **key)
    assert await upload(client, "a.md", "# A\n\nOne.\n", **key) == first
    assert len((await client.get("documents")).json()["items"]) == 1


async def test_a_persons_documents_are_theirs(plane: pp.Plane, tenant: str) -> None:
    """Others neither see nor find them, and may have some of the same name."""
    ada, eve = (pp.Caller(name, tenant, uuid4()) for name in ("ada", "eve"))
    ids = []
    for who in (ada, eve):
        text = f"# Diary\n\nThe secret of {who.actor} is a kettle.\n".encode()
        taken = await keeping.take(
            plane, who, [Arrival("upload", "diary.md", text)], owner=who.user
        )
        assert taken.work is not None and taken.landed[0].outcome == "new"
        await work_of(plane, who, taken.work, wait_s=20)
        ids.append(taken.landed[0].id)
    await plane.caught_up(DocumentChunks, timeout_s=60)
    for who, own in zip((ada, eve), ids, strict=True):
        hits = await plane.acting(who)[DocumentChunks].search("secret kettle", limit=10)
        assert {it.tags["document_id"] for it in hits} == {str(own)}
    stolen, _ = await keeping.read_again(plane, eve, [it for it in ids if it is not None][:1])
    assert stolen is None


async def test_ingest_over_routes(client: AsyncClient, tmp_path: Path, tenant: str) -> None:
    """As the command does: a large file by itself, the others together."""
    (tmp_path / "large.txt").write_bytes(b"A line of a log.\n" * 260_000)
    (tmp_path / "small.md").write_text("# Small\n\nText.\n")

    async def call(method: str, path: str, **given: Any) -> Any:
        asked = given.pop("parameters", None)
        answer = await client.request(method, f"{ROOT}{path}", params=asked, **given)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    report = await ingest_over(call, tenant, [tmp_path])
    assert report.is_clean and report.is_settled and report.new == report.ready == 2
    (tmp_path / "small.md").unlink()
    report = await ingest_over(call, tenant, [tmp_path], Wanted(remove_gone=True))
    assert (report.unchanged, report.gone, report.removed) == (1, 1, 1)
