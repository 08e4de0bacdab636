"""NATS spoken by hand: what a user may do, as the server says at once, and the server by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from polyplane.embedded.nats import Nats

ANSWER_S = 10.0


class Spoken:
    """One connection. A PING follows every command, so that a refusal comes before its PONG."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, command: str) -> str:
        """What the server has against it; nothing when it takes it."""
        self._writer.write(f"{command}\r\nPING\r\n".encode())
        refused = ""
        async with asyncio.timeout(ANSWER_S):
            while (line := (await self._reader.readline()).decode()) != "PONG\r\n":
                if not line:
                    return refused or "closed"
                if line.startswith("-ERR"):
                    refused = line
        return refused

    async def may(self, verb: str, subject: str) -> bool:
        """Whether it may publish to a subject (`pub`), or listen to one (`sub`)."""
        command = f"PUB {subject} 0\r\n" if verb == "pub" else f"SUB {subject} 1"
        refused = await self.say(command)
        assert not refused or "Permissions Violation" in refused, refused
        return not refused


@asynccontextmanager
async def spoken(url: str) -> AsyncIterator[Spoken]:
    """A connection as the user of `url`. Raises PermissionError when it is not let in."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        await reader.readline()  # its greeting
        connection = Spoken(reader, writer)
        said = {"user": where.username, "pass": where.password, "verbose": False}
        said |= {"pedantic": False}
        if refused := await connection.say(f"CONNECT {json.dumps(said)}"):
            raise PermissionError(refused)
        yield connection
    finally:
        writer.close()


@asynccontextmanager
async def server(folder: Path, port: int, config: str) -> AsyncIterator[None]:
    """A server of one's own, with this configuration, killed at the end."""
    path = folder / "own.conf"
    store = f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}/js" }}\n'
    path.write_text(store + config)
    with (folder / "own.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            Nats().program, "--config", path, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(ANSWER_S):
            while process.returncode is None and not await _answers(port):
                await asyncio.sleep(0.02)
        assert process.returncode is None, (folder / "own.log").read_text()
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
