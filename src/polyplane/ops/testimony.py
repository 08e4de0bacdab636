"""The signed report of a proof: what was compared, as of when, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from polyplane.errors import Refused
from polyplane.security.attest import attested, is_attested
from polyplane.security.secret_file import secret_in

KEY_NAME: Final = "report.key"
VERSION: Final = 3
"""Since 2 digests of buckets are chains of segments (`reconcile.sums`), and streams are named;
since 3 blobs are, too."""
KEYS_MAX: Final = 1_000
"""Keys of each kind that a report names; it has the count of all."""

_KINDS: Final = ("missing", "stale", "extra", "stuck", "parked", "moving")


def write_report(path: Path, drift: Mapping[str, Any], *, home: Path, namespace: str) -> None:
    """Write what `drift` (a `Drift` in plain values) says to `path`, signed by `home`.

    Raises Refused when the file cannot be written.
    """
    report = {
        "document": "polyplane verify",
        "version": VERSION,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "namespace": namespace,
        "clean": not (drift["missing"] or drift["stale"] or drift["extra"]),
        "sample": drift.get("sample"),
        "seed": drift.get("seed"),
        "projections": [_projection(part) for part in drift["parts"]],
        "streams": list(drift["streams"]),
        "blobs": [_blobs(part) for part in drift["blobs"]],
    }
    signed = attested(report, secret_in(home / KEY_NAME))
    try:
        path.write_text(json.dumps(signed, indent=1) + "\n", encoding="ascii")
    except OSError as error:
        raise Refused(f"The report cannot be written: {error}.") from error


def read_report(path: Path, *, home: Path) -> dict[str, Any]:
    """The report in `path`. Raises Refused unless it is as this home has signed it."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read as a report: {error}.") from error
    if not isinstance(report, dict) or not is_attested(report, secret_in(home / KEY_NAME)):
        raise Refused(
            f"{path} is not as this home has signed it.",
            fix=f"Check it with the home that wrote it; its key is in {KEY_NAME}.",
        )
    return report


def _projection(part: Mapping[str, Any]) -> dict[str, Any]:
    """One projection in the report."""
    kinds = {kind: {"count": len(part[kind]), "keys": part[kind][:KEYS_MAX]} for kind in _KINDS}
    buckets = [{"truth": truth, "store": store} for truth, store in part["buckets"]]
    bare = {name: value for name, value in part.items() if name not in _KINDS}
    return bare | kinds | {"buckets": buckets}


def _blobs(part: Mapping[str, Any]) -> dict[str, Any]:
    """The files of one bucket in the report."""
    kinds = ("lost", "damaged", "whole")
    named = {kind: {"count": len(part[kind]), "keys": part[kind][:KEYS_MAX]} for kind in kinds}
    orphans = [{**it, "modified": str(it["modified"])} for it in part["orphans"]]
    return {**part, **named, "orphans": orphans}
