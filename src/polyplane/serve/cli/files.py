"""Files for the command line: through a running `up`, or on a plane opened for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from polyplane.serve.cli.program import Program
from polyplane.serve.cli.remote import Remote, find_running
from polyplane.serve.cli.report import Report
from polyplane.serve.token import OPERATOR_HERE
from polyplane.settings import Settings

if TYPE_CHECKING:
    from polyplane.plane import Plane
    from polyplane.serve.cli.opening import OwnPlane

PIECE_BYTES = 1 << 20

Tell = Callable[[int], None]
"""Hears how many bytes are there."""


class Files(Protocol):
    """The files of one tenant."""

    def put(self, file: Path, name: str, content_type: str, key: str, tell: Tell) -> dict[str, Any]:
        """Put it, or go on with what was put with this key."""
        ...

    def about(self, blob: UUID) -> dict[str, Any]:
        """What is known of one."""
        ...

    def read(self, blob: UUID, start: int) -> Iterator[bytes]:
        """Its bytes from `start` on."""
        ...

    def page(self, state: str, after: UUID | None, limit: int) -> list[dict[str, Any]]:
        """The newest."""
        ...

    def url(self, blob: UUID, expires_s: int) -> str:
        """A URL to GET it with."""
        ...

    def delete(self, blob: UUID) -> None:
        """Delete it."""
        ...

    def collect(self, grace_s: float, *, dry: bool) -> dict[str, Any]:
        """Take away what nobody needs."""
        ...


def files_of(report: Report, program: Program, settings: Settings, tenant: str) -> Files:
    """Through the `up` of the home, if one runs."""
    remote = find_running(settings)
    if remote is not None:
        return OfUp(remote, tenant)
    from polyplane.serve.cli.opening import OwnPlane  # loads every engine

    return OfPlane(OwnPlane(report, program, settings), tenant)


class OfUp(Files):
    """Over HTTP."""

    def __init__(self, remote: Remote, tenant: str) -> None:
        self._remote = remote
        self._tenant = {"X-Tenant": tenant}

    def put(self, file: Path, name: str, content_type: str, key: str, tell: Tell) -> dict[str, Any]:
        def pieces() -> Iterator[bytes]:
            done = 0
            with file.open("rb") as opened:
                while piece := opened.read(PIECE_BYTES):
                    yield piece
                    done += len(piece)
                    tell(done)

        headers = {**self._tenant, "Content-Type": content_type, "Idempotency-Key": key}
        found: dict[str, Any] = self._remote.call(
            "POST", "blobs", parameters={"name": name}, headers=headers, content=pieces()
        )
        return found

    def about(self, blob: UUID) -> dict[str, Any]:
        found: dict[str, Any] = self._remote.call(
            "GET", f"blobs/{blob}/about", headers=self._tenant
        )
        return found

    def read(self, blob: UUID, start: int) -> Iterator[bytes]:
        if start == self.about(blob)["size"]:
            return
        with self._remote.reading(f"blobs/{blob}", start, self._tenant) as pieces:
            yield from pieces

    def page(self, state: str, after: UUID | None, limit: int) -> list[dict[str, Any]]:
        asked = {"state": state, "limit": limit, **({"after": str(after)} if after else {})}
        found: list[dict[str, Any]] = self._remote.call(
            "GET", "blobs", parameters=asked, headers=self._tenant
        )["items"]
        return found

    def url(self, blob: UUID, expires_s: int) -> str:
        asked = {"expires_s": expires_s}
        return str(
            self._remote.call("POST", f"blobs/{blob}/url", parameters=asked, headers=self._tenant)[
                "url"
            ]
        )

    def delete(self, blob: UUID) -> None:
        self._remote.call("DELETE", f"blobs/{blob}", headers=self._tenant)

    def collect(self, grace_s: float, *, dry: bool) -> dict[str, Any]:
        asked = {"grace_s": grace_s, "dry": dry}
        found: dict[str, Any] = self._remote.call("POST", "blobs/collect", parameters=asked)
        return found


class OfPlane(Files):
    """On a plane that each call opens and closes."""

    def __init__(self, own: OwnPlane, tenant: str) -> None:
        self._own = own
        self._tenant = tenant

    def put(self, file: Path, name: str, content_type: str, key: str, tell: Tell) -> dict[str, Any]:
        async def work(plane: Plane) -> dict[str, Any]:
            given = {"name": name, "content_type": content_type, "tenant": self._tenant}
            return _plain(await plane.blobs.put(file, key=key, progress=tell, **given))

        return self._own.on(work)

    def about(self, blob: UUID) -> dict[str, Any]:
        async def work(plane: Plane) -> dict[str, Any]:
            return _plain(await plane.blobs.head(blob, tenant=self._tenant))

        return self._own.on(work)

    def read(self, blob: UUID, start: int) -> Iterator[bytes]:
        pieces: Queue[bytes | BaseException | None] = Queue(maxsize=4)

        async def work(plane: Plane) -> None:
            async for piece in plane.blobs.open(blob, start=start, tenant=self._tenant):
                pieces.put(piece)

        def run() -> None:
            try:
                self._own.on(work)
                pieces.put(None)
            except BaseException as error:  # for who reads
                pieces.put(error)

        Thread(target=run, daemon=True).start()
        while (piece := pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def page(self, state: str, after: UUID | None, limit: int) -> list[dict[str, Any]]:
        from polyplane.model.blob import BlobState  # with what it needs of SQLAlchemy

        async def work(plane: Plane) -> list[dict[str, Any]]:
            found = await plane.blobs.list(
                tenant=self._tenant, states=[BlobState(state)], after=after, limit=limit
            )
            return [_plain(it) for it in found]

        return self._own.on(work)

    def url(self, blob: UUID, expires_s: int) -> str:
        async def work(plane: Plane) -> str:
            return await plane.blobs.url(
                blob, tenant=self._tenant, expires_s=expires_s, by=OPERATOR_HERE
            )

        return self._own.on(work)

    def delete(self, blob: UUID) -> None:
        async def work(plane: Plane) -> None:
            await plane.blobs.delete(blob, tenant=self._tenant, by=OPERATOR_HERE)

        self._own.on(work)

    def collect(self, grace_s: float, *, dry: bool) -> dict[str, Any]:
        async def work(plane: Plane) -> dict[str, Any]:
            if dry:
                return asdict(await plane.blobs.collect(grace_s=grace_s, dry=True))
            detail = {"grace_s": grace_s}
            async with plane.audit.act(OPERATOR_HERE, "blobs.collect", "blobs", detail=detail):
                return asdict(await plane.blobs.collect(grace_s=grace_s))

        return self._own.on(work)


def _plain(blob: Any) -> dict[str, Any]:
    return {name: str(it) if isinstance(it, UUID) else it for name, it in asdict(blob).items()}
