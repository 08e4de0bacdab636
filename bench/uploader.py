"""The process of measurement (j): puts one file, through a plane or with boto3 alone.

It reads one JSON object, `Task`, from standard input and writes one, `Done`, to standard output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
import structlog
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from bench.memory import watched
from polyplane import Plane, Settings
from polyplane.stores.disk import sync

PARALLEL: Final = 4
PART_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Task:
    """Which file to put, how ("plane", "boto3", "small"), and under which key.

    With `die_at` it kills itself when so many bytes are stored.
    """

    settings: dict[str, Any]
    path: str
    how: str
    key: str
    die_at: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """How long it took until it was durable, how memory grew, how many parts were sent."""

    seconds: float
    rss_growth_mib: float
    parts_sent: int = 0


async def by_plane(task: Task) -> Done:
    """Through the saga. What is put is taken away again."""
    settings = Settings.load(environ={}, **task.settings)
    async with Plane(settings=settings, blobs=True) as plane:
        await plane.blobs.put(b"warm")
        store, sent = plane.opened.stores.objects, 0
        assert store is not None
        right = store.put_part

        async def counted(*given: Any) -> Any:
            nonlocal sent
            sent += 1
            return await right(*given)

        store.put_part = counted  # type: ignore[method-assign]

        def die(stored: int) -> None:
            if task.die_at and stored >= task.die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        with watched() as growth:
            started = perf_counter()
            blob = await plane.blobs.put(Path(task.path), key=task.key, progress=die)
            seconds = perf_counter() - started
        assert blob.size == Path(task.path).stat().st_size
        await plane.blobs.delete(blob.id)
        await plane.blobs.collect(grace_s=0)
    return Done(seconds, max(growth), sent)


async def small_ones(task: Task) -> Done:
    """So many small files, one after the other."""
    settings = Settings.load(environ={}, **task.settings)
    async with Plane(settings=settings, blobs=True) as plane:
        await plane.blobs.put(b"warm")
        with watched() as growth:
            started = perf_counter()
            for n in range(task.count):
                await plane.blobs.put(f"{task.key} {n}".encode())
            seconds = perf_counter() - started
    return Done(seconds, max(growth))


def by_boto3(task: Task) -> Done:
    """With boto3's own multipart transfer, and the sync that makes it as durable."""
    url = urlsplit(task.settings["objects_url"])
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{url.hostname}:{url.port}",
        aws_access_key_id=url.username,
        aws_secret_access_key=url.password,
        region_name="us-east-1",
        config=Config(max_pool_connections=PARALLEL),
    )
    if "bare" not in {it["Name"] for it in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket="bare")
    client.put_object(Bucket="bare", Key="warm", Body=b"warm")
    how = TransferConfig(multipart_chunksize=PART_BYTES, max_concurrency=PARALLEL)
    with watched() as growth:
        started = perf_counter()
        client.upload_file(task.path, "bare", task.key, Config=how)
        sync(Path(task.settings["home"]) / "engines" / "seaweedfs")
        seconds = perf_counter() - started
    client.delete_object(Bucket="bare", Key=task.key)
    return Done(seconds, max(growth))


def main() -> None:
    """Read the task, do it, write what came of it."""
    logging.disable(logging.INFO)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    task = Task(**json.load(sys.stdin))
    if task.how == "boto3":
        done = by_boto3(task)
    else:
        done = asyncio.run(small_ones(task) if task.how == "small" else by_plane(task))
    json.dump(asdict(done), sys.stdout)


if __name__ == "__main__":
    main()
