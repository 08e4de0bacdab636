"""Signed reports: as they were signed, or refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from polyplane.errors import Refused
from polyplane.model.drift import BlobPart, Broken, Drift, Orphan, Part, Partition, StreamPart
from polyplane.ops.testimony import KEY_NAME, KEYS_MAX, read_report, write_report
from polyplane.serve.cli.verify import table_of

MANY = tuple(f"key {n}" for n in range(KEYS_MAX + 1))
PART = Part(
    projection="notes",
    collection="notes_v2",
    definition="vector/notes/2/own",
    epoch=3,
    order=77,
    rows=9,
    derived=8,
    items=7,
    tombstones=1,
    truth_digest="a" * 32,
    store_digest="b" * 32,
    buckets=(("a" * 32, "b" * 32),),
    missing=MANY,
    extra=("\0", "é"),
    parked=("p",),
)


def written(folder: Path, *parts: Part) -> Path:
    """The file of a report on `parts`."""
    path = folder / "report.json"
    write_report(path, asdict(Drift.of(parts)), home=folder / "home", namespace="n")
    return path


def test_a_report_says_what_was_proven(tmp_path: Path) -> None:
    report = read_report(written(tmp_path, PART), home=tmp_path / "home")
    assert report["clean"] is False and report["namespace"] == "n"
    [found] = report["projections"]
    assert (found["epoch"], found["order"], found["definition"]) == (3, 77, "vector/notes/2/own")
    assert found["buckets"] == [{"truth": "a" * 32, "store": "b" * 32}]
    assert found["missing"] == {"count": KEYS_MAX + 1, "keys": list(MANY[:-1])}
    assert found["extra"]["keys"] == ["\0", "é"] and found["parked"]["keys"] == ["p"]
    assert (tmp_path / "home" / KEY_NAME).stat().st_mode & 0o777 == 0o600
    assert read_report(written(tmp_path), home=tmp_path / "home")["clean"] is True


def test_a_report_names_streams(tmp_path: Path) -> None:
    partition = Partition("202601", 5, 4, "c" * 32)
    broken = Broken("0" * 16, lost=2, doubled=1)
    part = StreamPart("heat", "d", 3, 9, (partition,), 2, 6, 0, 2, 1, (broken,))
    drift = Drift.of((), (part,))
    assert (drift.missing, drift.stale, drift.extra) == (2, 0, 1)
    path = tmp_path / "report.json"
    write_report(path, asdict(drift), home=tmp_path / "home", namespace="n")
    report = read_report(path, home=tmp_path / "home")
    assert report["clean"] is False and report["version"] == 3
    [found] = report["streams"]
    assert found["partitions"] == [asdict(partition)] and found["broken"] == [asdict(broken)]
    console = Console(width=120, record=True, file=StringIO())
    console.print(*table_of(asdict(drift)))
    shown = console.export_text()
    assert "heat, batch 0000000000000000: 2 lost, 1 doubled" in shown


def test_a_report_names_blobs(tmp_path: Path) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    orphan = Orphan("k", "v", 7, at)
    part = BlobPart("b", 5, 4, 99, "t", "s", ("lost",), ("bad",), 2, (orphan,), expired=1)
    drift = Drift.of((), (), (part,))
    assert (drift.missing, drift.stale, drift.extra) == (1, 1, 2)
    path = tmp_path / "report.json"
    write_report(path, asdict(drift), home=tmp_path / "home", namespace="n")
    [found] = read_report(path, home=tmp_path / "home")["blobs"]
    assert found["lost"] == {"count": 1, "keys": ["lost"]}
    assert found["orphans"] == [{"key": "k", "version": "v", "size": 7, "modified": str(at)}]
    console = Console(width=120, record=True, file=StringIO())
    console.print(*table_of(asdict(drift)))
    shown = console.export_text()
    assert "blob lost: lost" in shown and "k v: an object that no blob refers to" in shown


def tampered(report: dict[str, Any]) -> list[object]:
    """Reports that differ from `report` in one place."""
    signature = report["signature"]
    return [
        report | {"clean": True},
        report | {"more": 1},
        {name: value for name, value in report.items() if name != "at"},
        {name: value for name, value in report.items() if name != "signature"},
        report | {"signature": signature | {"algorithm": "none"}},
        report | {"signature": signature | {"key": "0" * 16}},
        report | {"signature": signature | {"value": "é"}},
        report | {"signature": None},
        [report],
        None,
    ]


def test_what_was_changed_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, PART)
    for report in tampered(json.loads(path.read_text())):
        path.write_text(json.dumps(report))
        with pytest.raises(Refused):
            read_report(path, home=tmp_path / "home")
    path.write_text("no report")
    with pytest.raises(Refused):
        read_report(path, home=tmp_path / "home")
    with pytest.raises(Refused):
        read_report(tmp_path / "nowhere", home=tmp_path / "home")


def test_another_home_did_not_sign_it(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not as this home"):
        read_report(written(tmp_path, PART), home=tmp_path / "other")


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        write_report(tmp_path / "no" / "f", asdict(Drift.of(())), home=tmp_path, namespace="n")
