"""The machine below the ring: engines to kill and to stop, a disk to fill, streams to wipe."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import nats
import nats.js.errors
import psutil
from nats.js import JetStreamContext
from sqlalchemy import make_url

ENGINES = ("postgres", "nats", "valkey")
DISK_MB = 256
VISIT_S = 5.0


class Ground:
    """The home of the ring's engines, which are found by what their supervisor writes down."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.disk = home / "lancedb"
        self.has_disk = False

    def _ledger(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.home / "engines.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def port(self, engine: str) -> int:
        """Where it listens; 1, where nobody does, before its first start."""
        return int(self._ledger().get("ports", {}).get(engine, {}).get("client", 1))

    def url(self, engine: str, through_proxy: str) -> str:
        """The URL of an engine past the proxy."""
        url = make_url(through_proxy).set(port=self.port(engine))
        return url.render_as_string(hide_password=False)

    def server(self, engine: str) -> psutil.Process | None:
        """Its server, if it lives."""
        record = self._ledger().get("records", {}).get(engine)
        if record is None:
            return None
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(record["identity"]["pid"])
            if engine in " ".join(process.cmdline()):  # else its pid is somebody else's by now
                return process
        return None

    def backends(self) -> list[psutil.Process]:
        """The processes of PostgreSQL that serve clients."""
        server = self.server("postgres")
        if server is None:
            return []
        with suppress(psutil.NoSuchProcess):
            return [p for p in server.children() if _is_backend(p)]
        return []

    def family(self, engine: str) -> list[psutil.Process]:
        """Its server with all its children; none if it does not live."""
        server = self.server(engine)
        if server is None:
            return []
        with suppress(psutil.NoSuchProcess):
            return [server, *server.children()]
        return []

    def kill(self, engine: str) -> bool:
        """kill -9 of the server itself; whether there was one."""
        server = self.server(engine)
        return server is not None and bool(send([server], signal.SIGKILL))

    # The disk

    def mount(self) -> bool:
        """A small disk of its own for the vector store; whether it can be had."""
        self.has_disk = not small_disk(self.disk, DISK_MB)
        return self.has_disk

    def fill(self) -> None:
        """Leave not a byte."""
        fill(self.disk)

    def empty(self) -> None:
        """Give it back."""
        empty(self.disk)

    def unmount(self) -> None:
        """Let go of the disk."""
        if self.has_disk:
            subprocess.run(["umount", "-l", str(self.disk)], check=False, timeout=10)
            self.has_disk = False


def small_disk(at: Path, size_mb: int) -> str:
    """Mount a small disk; why that cannot be done here, or nothing."""
    at.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(at)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=10)
    return done.stderr.decode(errors="replace").strip() if done.returncode else ""


def fill(disk: Path) -> None:
    """Leave not a byte of a disk; again, of what was freed since."""
    with (disk / "ballast").open("ab") as file:
        free = os.statvfs(disk)
        with suppress(OSError):
            os.posix_fallocate(file.fileno(), file.tell(), free.f_bavail * free.f_frsize)
        with suppress(OSError):
            while os.write(file.fileno(), bytes(4096)):
                pass


def empty(disk: Path) -> None:
    """Give it back."""
    (disk / "ballast").unlink(missing_ok=True)


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> list[psutil.Process]:
    """Signal those that still live; they are returned."""
    reached = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            reached.append(process)
    return reached


def _is_backend(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return "postgres: polyplane" in " ".join(process.cmdline())
    return False


async def heard(_: Exception) -> None:
    """A client whose server comes and goes need not tell of it."""


@asynccontextmanager
async def operator(url: str) -> AsyncIterator[JetStreamContext]:
    """A short visit. Without its own deadline the client would try to connect for two minutes."""
    async with asyncio.timeout(VISIT_S):
        client = await nats.connect(url, connect_timeout=2, error_cb=heard)
        try:
            yield client.jetstream(timeout=3)
        finally:
            await client.close()


async def wipe(url: str, stream: str, *, delete: bool) -> bool:
    """Purge or delete a stream, as an operator would; whether it was there."""
    async with operator(url) as js:
        try:
            if delete:
                await js.delete_stream(stream)
            else:
                await js.purge_stream(stream)
        except nats.js.errors.NotFoundError:
            return False
        return True


async def is_drained(url: str, stream: str) -> bool:
    """Whether nothing is left in a stream."""
    async with operator(url) as js:
        return (await js.stream_info(stream)).state.messages == 0
