"""docs/laboratory.md knows every route of the laboratory, and its messages are real ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

from fastapi import FastAPI

from polyplane.domains.laboratory import wire
from polyplane.domains.laboratory.contents import routes
from polyplane.domains.laboratory.lifecycle import ATTEMPTS_MAX, RETRIES_MAX
from polyplane.domains.laboratory.measurement import UNITS
from polyplane.domains.laboratory.streams import Telemetry
from polyplane.model.points import decode

PAGE = (Path(__file__).parents[2] / "docs" / "laboratory.md").read_text(encoding="utf-8")
ORDER, REPORT, POINTS = re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_every_route_is_on_the_page() -> None:
    told: set[tuple[str, str]] = set()
    for row in re.findall(r"^\| (`[A-Z].*?) \|", PAGE, re.MULTILINE):
        methods: list[str] = []
        for method, path in re.findall(r"`(?:([A-Z]+)\b ?)?(/[^`?]*)?[^`]*`", row):
            methods.append(method)
            if path:
                told |= {(each, path) for each in methods if each}
                methods = []
    api = FastAPI()
    api.include_router(routes())
    ours = {
        (method.upper(), path)
        for path, methods in api.openapi()["paths"].items()
        for method in methods
    }
    assert ours == told


def test_the_messages_are_ones_we_send_and_take() -> None:
    order = wire.parse_order(ORDER.encode())
    report = wire.parse_report(REPORT.encode())
    activity = order.activities[0]
    assert (report.data.activity_id, report.kind) == (activity.activity_id, "completed")
    points = decode(Telemetry, json.loads(POINTS))
    assert set(points["activity_id"].to_pylist()) == {activity.activity_id}
    assert json.loads(ORDER)["type"] == wire.ISSUED


def test_subjects_and_limits_are_the_real_ones() -> None:
    for subject in (
        wire.orders_subject("pp", "default", "bench-1"),
        wire.reports_subject("pp", "default", "bench-1"),
        wire.telemetry_subject("pp", "default"),
    ):
        assert f"| `{subject}` |" in PAGE
    assert f"After {RETRIES_MAX} retries" in PAGE
    assert f"1 to {ATTEMPTS_MAX}" in PAGE
    assert f"{wire.ERROR_CHARACTERS_MAX:,} characters" in PAGE
    assert f"{wire.REPORT_BYTES_MAX // 1024} KiB" in PAGE
    assert [metric for metric in UNITS if f"`{metric}`" not in PAGE] == []
