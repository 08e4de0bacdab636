"""`polyplane blobs`: put, get, list, share, delete and collect files."""

from __future__ import annotations

from hashlib import sha256
from mimetypes import guess_type
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Table

from polyplane.errors import ObjectLost, Refused
from polyplane.serve.cli.files import Files, files_of
from polyplane.serve.cli.report import Home, Json, Report
from polyplane.serve.cli.watching import watched
from polyplane.settings import Settings

app = typer.Typer(
    help="Put, get, list, share and delete files.", no_args_is_help=True, add_completion=False
)

Id = Annotated[UUID, typer.Argument(help="The id of the blob.")]
Tenant = Annotated[str, typer.Option(help="On whose behalf.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; else it is only shown.")]
PIECE_BYTES = 1 << 20


@app.command()
def put(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file.")],
    name: Annotated[str, typer.Option(help="What people call it (default: as the file).")] = "",
    content_type: Annotated[str, typer.Option(help="Its type (default: by its name).")] = "",
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Put a file; it is durable when this ends. Interrupted: the same command goes on with it."""
    with Report("blobs put", as_json) as report:
        if not file.is_file():
            raise Refused(f"There is no file {file}.", field="file")
        settings = Settings.load(home=home)
        report.if_interrupted = f"To go on: polyplane blobs put {file}"
        kind = content_type or guess_type(file.name)[0] or "application/octet-stream"
        with watched(report) as bar:
            size = file.stat().st_size
            blob = _files(report, ctx, settings, tenant).put(
                file, name or file.name, kind, _key(file), lambda n: bar.bytes(file.name, n, size)
            )
        report.data = blob
        report.show(f"{blob['id']}  {blob['size']:,} bytes  sha256 {blob['sha256']}")
        report.next = f"polyplane blobs get {blob['id']} --to {file.name}"


@app.command()
def get(
    ctx: typer.Context,
    blob: Id,
    to: Annotated[Path | None, typer.Option(help="Into this file (default: its name).")] = None,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Get a file, and check its digest. Interrupted: the same command goes on with it."""
    with Report("blobs get", as_json) as report:
        files = _files(report, ctx, Settings.load(home=home), tenant)
        found = files.about(blob)
        path = to or Path(found["name"] or str(blob)).name
        path = Path(path)
        if path.exists():
            raise Refused(f"{path} exists.", field="to", fix="Choose another one with --to.")
        part = path.with_name(f"{path.name}.part")
        report.if_interrupted = f"To go on: polyplane blobs get {blob} --to {path}"
        with watched(report) as bar:
            done = _begun(part, found["size"])
            with part.open("ab") as file:
                for piece in files.read(blob, done):
                    file.write(piece)
                    done += len(piece)
                    bar.bytes(path.name, done, found["size"])
        if _digest(part) != found["sha256"]:
            part.unlink()
            raise ObjectLost(f"What came of blob {blob} is not what was put.", fix="Try again.")
        part.rename(path)
        report.data = found | {"path": str(path)}
        report.show(f"{path}  {found['size']:,} bytes  sha256 {found['sha256']}")
        report.next = "polyplane blobs list"


@app.command("list")
def list_(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 50,
    after: Annotated[UUID | None, typer.Option(help="Only those older than this one.")] = None,
    pending: Annotated[bool, typer.Option("--pending", help="Those not whole yet.")] = False,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the newest files."""
    with Report("blobs list", as_json) as report:
        files = _files(report, ctx, Settings.load(home=home), tenant)
        found = files.page("pending" if pending else "committed", after, limit)
        report.data = {"blobs": found}
        table = Table("id", "name", "bytes", "type", "since", "sha256", box=None)
        for it in found:
            size = "" if it["size"] is None else f"{it['size']:,}"
            since = str(it["committed_at"] or it["created_at"])[:19]
            digest = (it["sha256"] or "")[:12]
            table.add_row(it["id"], it["name"], size, it["content_type"], since, digest)
        report.show(table if found else "There are none.")
        report.next = "polyplane verify blobs"


@app.command()
def url(
    ctx: typer.Context,
    blob: Id,
    expires: Annotated[int, typer.Option(min=1, max=900, help="Good for so many seconds.")] = 300,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a URL that anyone may GET this one file with, for a short time."""
    with Report("blobs url", as_json) as report:
        made = _files(report, ctx, Settings.load(home=home), tenant).url(blob, expires)
        report.data = {"url": made, "expires_s": expires}
        report.show(made)


@app.command()
def delete(
    ctx: typer.Context,
    blob: Id,
    yes: Yes = False,
    tenant: Tenant = "default",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Delete a file, unless a row refers to it. Its object goes when it is collected."""
    with Report("blobs delete", as_json) as report:
        files = _files(report, ctx, Settings.load(home=home), tenant)
        found = files.about(blob)
        if not yes:
            raise Refused(
                f"This deletes {found['name'] or blob}, {found['size']:,} bytes.",
                fix="Say --yes to do it.",
            )
        files.delete(blob)
        report.data = found
        report.show(f"{found['name'] or blob} is deleted.")
        report.next = "polyplane blobs collect"


@app.command()
def collect(
    ctx: typer.Context,
    grace: Annotated[float, typer.Option(min=0, help="Hours that nobody needed it.")] = 24.0,
    yes: Yes = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take away objects of deleted files, of uploads that were given up, and of nobody."""
    with Report("blobs collect", as_json) as report:
        settings = Settings.load(home=home)
        files = _files(report, ctx, settings, "default")
        with report.waiting("collecting"):
            found = files.collect(grace * 3600, dry=not yes)
        report.data = found
        verb = "were" if yes else "would be"
        report.show(
            f"{found['objects']:,} objects of {found['bytes']:,} bytes {verb} taken away:"
            f" {found['blobs']:,} deleted files, {found['orphans']:,} of nobody;"
            f" {found['uploads']:,} uploads, {found['expired']:,} given up."
            f" {found['young']:,} are too young."
        )
        report.next = "polyplane verify blobs" if yes else "polyplane blobs collect --yes"


def _files(report: Report, ctx: typer.Context, settings: Settings, tenant: str) -> Files:
    return files_of(report, ctx.obj, settings, tenant)


def _key(file: Path) -> str:
    """The same for the same file, as long as nobody changes it."""
    known = file.stat()
    about = f"{file.resolve()}\0{known.st_size}\0{known.st_mtime_ns}"
    return f"file:{sha256(about.encode()).hexdigest()}"


def _begun(part: Path, size: int) -> int:
    """How much of it is there from another time."""
    done = part.stat().st_size if part.exists() else 0
    if done > size:
        part.unlink()
        return 0
    return done


def _digest(path: Path) -> str:
    digest: Any = sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return str(digest.hexdigest())
