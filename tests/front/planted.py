"""What an injection would change or find, in every engine, read past the plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, TypedDict

import nats
from redis.asyncio import Redis

import polyplane as pp
from tests.attack.ground import DECLARED as ATTACKED, LABORATORY, WITHIN_S, Ground
from tests.flow.deeds import DIMENSIONS, Deed, DeedSearch
from tests.flow.things import admin_urls, becomes, by_hand
from tests.front.payloads import CANARY, FILE

SAID: Final = "nobody touches this 4711"

_TABLES: Final = (
    "SELECT c.relnamespace::regnamespace || '.' || c.relname FROM pg_catalog.pg_class c"
    " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relnamespace::regnamespace::text"
    " NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1"
)


class SaidTags(TypedDict):
    """A text to filter by."""

    said: str


class DeedSaid(pp.Vectors[Deed, SaidTags]):
    """Deeds by what is said of them, word by word."""

    dimensions: ClassVar = DIMENSIONS

    def derive(self, deed: Deed, /) -> pp.Vector[SaidTags]:
        return pp.Vector(deed.body, {"said": deed.body}, [1.0] * DIMENSIONS)


DECLARED: Final[dict[str, Any]] = {
    **ATTACKED,
    "projections": [*ATTACKED["projections"], DeedSaid],
}


async def plant(made: Ground) -> None:
    """Put the canaries where injections look for them."""
    await by_hand(made.plane, f"CREATE TABLE {CANARY} (id int, said text)")
    await by_hand(made.plane, f"INSERT INTO {CANARY} VALUES (1, '{SAID}')")
    async with Redis.from_url(admin_urls(made.plane)["valkey"]) as client:
        await client.set(CANARY, SAID)
    connection = await nats.connect(admin_urls(made.plane)["nats"])
    try:
        stream = f"{made.plane.namespace}_{CANARY}"
        await connection.jetstream().add_stream(name=stream, subjects=[stream])
        await connection.jetstream().publish(stream, SAID.encode())
    finally:
        await connection.close()
    Path(FILE).unlink(missing_ok=True)


async def settled(made: Ground) -> None:
    """Wait until all that the other tenant has sent is where it is read."""
    experiment = made.theirs.ids["experiment_id"]

    async def shown() -> bool:
        read = [f"/experiments/{experiment}/{it}/latest" for it in ("telemetry", "metrics")]
        answers = [
            await made.http.get(f"{LABORATORY}{path}", headers=made.theirs.headers) for path in read
        ]
        return all(answer.is_success and answer.json()["metrics"] for answer in answers)

    await becomes(shown, True, within_s=WITHIN_S)
    await made.plane.caught_up()


async def uproot(made: Ground) -> None:
    """Take out of shared servers what is not in our namespace."""
    async with Redis.from_url(admin_urls(made.plane)["valkey"]) as client:
        await client.delete(CANARY)
    connection = await nats.connect(admin_urls(made.plane)["nats"])
    try:
        await connection.jetstream().delete_stream(f"{made.plane.namespace}_{CANARY}")
    finally:
        await connection.close()


async def seen(made: Ground) -> dict[str, Any]:
    """All of it, and all that the other tenant is shown."""
    plane, found = made.plane, await made.snapshot()
    found["canary rows"] = await by_hand(plane, f"SELECT * FROM {CANARY}")
    found["tables"] = await by_hand(plane, _TABLES)
    found["roles"] = await by_hand(plane, "SELECT rolname, rolsuper FROM pg_roles ORDER BY 1")
    found["file"] = Path(FILE).exists()
    async with Redis.from_url(admin_urls(plane)["valkey"]) as client:
        found["canary key"] = await client.get(CANARY)
        names = [name async for name in client.scan_iter("*", count=1_000)]
        ours = plane.namespace.encode()
        others = [name for name in names if not name.startswith(ours)]
        # Those that end by themselves are of tests before this one.
        found["others' keys"] = sorted([it for it in others if await client.ttl(it) == -1])
    connection = await nats.connect(admin_urls(plane)["nats"])
    try:
        streams = await connection.jetstream().streams_info()
        canary = f"{plane.namespace}_{CANARY}"
        found["streams"] = sorted(stream.config.name or "" for stream in streams)
        counted: Sequence[int] = [s.state.messages for s in streams if s.config.name == canary]
        found["canary stream"] = counted
    finally:
        await connection.close()
    pieces = [it async for it in plane.acting(made.theirs.caller).blobs.open(blob_of(made))]
    found["their file"] = b"".join(pieces)
    return found


def blob_of(made: Ground) -> Any:
    """The other tenant's file."""
    assert made.theirs.blob is not None
    return made.theirs.blob


__all__ = ["DECLARED", "DeedSaid", "DeedSearch", "plant", "seen", "settled", "uproot"]
