"""What a tenant has of documents: one, with a file; and probes of files that go in together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final

from httpx import AsyncClient

from polyplane.runtime.acting import ActingBlobs

if TYPE_CHECKING:
    from tests.attack.ground import Ground

DOCUMENTS: Final = "/api/v1/assistant/documents"
NO_URL: Final = {"url": "http://127.0.0.1:9/"}
"""What is refused before anybody is asked: the attack leaves this machine alone."""

Probe = Callable[["Ground", Random], Awaitable[Any]]


async def fill_documents(http: AsyncClient, headers: dict[str, str], canary: str) -> dict[str, str]:
    """A document that is read; the ids by the names of the parameters that take them."""
    answer = await http.post(
        DOCUMENTS,
        params={"name": f"{canary}.md"},
        content=f"# About {canary}\n\nAll of it is {canary}.\n".encode(),
        headers=headers | {"Content-Type": "text/markdown"},
    )
    assert answer.is_success, answer.text
    taken = answer.json()
    work = taken["work"]
    for _ in range(6):
        read = await http.get(
            f"{DOCUMENTS}/readings/{work}", params={"wait_s": 10}, headers=headers
        )
        assert read.is_success, read.text
        if read.json()["is_over"]:
            break
    assert read.json()["ready"] == 1, read.text
    document = taken["landed"][0]["id"]
    return {"document_id": document, "work_id": work, "ids": document}


async def _staged(ground: Ground, dice: Random) -> Any:
    """The other's content is not there for me: mine is an object of its own."""
    acting = ground.plane.acting(ground.mine.caller)
    content = ground.theirs.canary.encode()
    files = [("mine", "text/plain", content)]
    async with acting.blobs.staged(files) as staged, acting.write() as tx:
        (id,) = await staged.commit(tx)
    put = await acting.blobs.head(id)
    return (
        [put.key] if put.key == ground.theirs.blob_key or put.tenant != acting.caller.tenant else []
    )


async def _delete_many(ground: Ground, dice: Random) -> Any:
    acting = ground.plane.acting(ground.mine.caller)
    assert ground.theirs.blob is not None
    async with acting.write() as tx:
        gone = await acting.blobs.delete_many(tx, [ground.theirs.blob])
    return [gone] if gone else []


STAGES: Final[dict[tuple[type[Any], str], Probe]] = {
    (ActingBlobs, "staged"): _staged,
    (ActingBlobs, "delete_many"): _delete_many,
}
