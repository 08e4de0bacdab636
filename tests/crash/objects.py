"""Objects of the ring: each content is known by its key; put over S3, counted after a barrier."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from polyplane.stores.disk import sync
from tests.crash.journal import Journal, read
from tests.flow.embedded_s3 import client_of

BUCKET: Final = "ring-objects"
PUTS: Final = 4
"""Objects under one barrier."""
_AWAY = (BotoCoreError, ClientError, OSError)


def content_of(number: int) -> bytes:
    """Up to 40 KB that no other number has."""
    chance = random.Random(number)
    return chance.randbytes(chance.randrange(1, 40_000))


async def put_objects(
    url: str, home: Path, journal: Journal, passing: Callable[[], Awaitable[None]]
) -> None:
    """Objects one after the other; counted when the disk below `home` has them."""
    client, number = client_of(url), 0
    while True:
        await passing()
        try:
            if number == 0:
                await asyncio.to_thread(client.create_bucket, Bucket=BUCKET)
            for it in range(number, number + PUTS):
                await asyncio.to_thread(
                    client.put_object, Bucket=BUCKET, Key=f"o{it}", Body=content_of(it)
                )
            await asyncio.to_thread(sync, home)
        except _AWAY as error:
            if "BucketAlready" not in str(error):
                await asyncio.sleep(0.2)
                continue
        else:
            number += PUTS
            journal.note(objects=number)
        await asyncio.sleep(0.05)


def lost_objects(url: str, notes: Path) -> tuple[int, list[str], list[str]]:
    """How many were acknowledged; which of them cannot be read, and which are something else."""
    sent = max([0, *(entry["objects"] for entry in read(notes / "objects.jsonl"))])
    client = client_of(url)
    lost: list[str] = []
    wrong: list[str] = []
    for number in range(sent):
        try:
            found = client.get_object(Bucket=BUCKET, Key=f"o{number}")["Body"].read()
        except _AWAY as error:
            lost.append(f"o{number}: {error}")
            continue
        if found != content_of(number):
            wrong.append(f"o{number}")
    return sent, lost, wrong
