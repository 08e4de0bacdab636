"""What the laboratory and its controllers say to each other over NATS; see docs/laboratory.md.

What a controller sends is an outsider's word: it is checked here, once, and refused whole.
Members that nobody knows are ignored, so that either side may learn new ones first.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, cast
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError

from polyplane.domains.laboratory.lifecycle import ATTEMPTS_MAX, Event, Kind

ISSUED: Final = "laboratory.work_order.issued"
"""Type of the domain event that carries a work order."""
TAKER: Final = "controller"
"""What the durable consumers of those who take work orders are called, before tenant and id."""
REPORTS: Final = "activity"
"""Name of the inbound stream that takes the reports."""

ACTIVITIES_MAX: Final = 200
"""Activities of one work order: with their parameters they fit into one message of 1 MB."""
PARAMETERS_BYTES_MAX: Final = 2_048
REPORT_BYTES_MAX: Final = 256 * 1024
ERROR_CHARACTERS_MAX: Final = 4_000


def orders_subject(namespace: str, tenant: str, controller_id: str) -> str:
    """Where a controller finds its work orders."""
    return f"{namespace}.events.{tenant}.{ISSUED}.{controller_id}"


def reports_subject(namespace: str, tenant: str, controller_id: str) -> str:
    """Where a controller reports what became of its activities."""
    return f"{namespace}.inbound.laboratory.{REPORTS}.{tenant}.{controller_id}"


def telemetry_subject(namespace: str, tenant: str) -> str:
    """Where a controller publishes its telemetry."""
    return f"{namespace}.streams.telemetry.{tenant}"


def tenant_of(subject: str, inbound: str) -> str:
    """The tenant that the subject of an inbound message says, which is what NATS lets its sender
    use; ValueError when it says none.
    """
    parts = subject.partition(f".inbound.laboratory.{inbound}.")[2].split(".")
    if len(parts) != 2:
        raise ValueError("the subject says no tenant")
    return parts[0]


def _storable(time: datetime) -> datetime:
    if not 1970 < time.year < 2099:
        raise ValueError("must be between 1971 and 2098, which every store can hold")
    return time.astimezone(UTC)


def _json(value: dict[str, Any]) -> dict[str, Any]:
    json.dumps(value, allow_nan=False)
    return value


Time = Annotated[AwareDatetime, AfterValidator(_storable)]
"""A moment with a zone, in UTC once it is read."""
JsonObject = Annotated[dict[str, Any], AfterValidator(_json)]
"""A JSON object: no NaN, no infinity."""
Name = Annotated[str, Field(min_length=1, max_length=255)]
ActivityId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@-]{1,255}$")]
"""Fits into a URL's path and a message's header."""
SUBJECT_TOKEN: Final = r"^[A-Za-z0-9_-]{1,64}$"
SubjectToken = Annotated[str, Field(pattern=SUBJECT_TOKEN)]
"""A token of a NATS subject: no dots, blanks or wildcards."""


class Activity(BaseModel):
    """One thing to do, for the `attempt`-th time."""

    activity_id: ActivityId
    name: Name
    parameters: JsonObject = Field(default_factory=dict)
    attempt: int = Field(default=1, ge=1, le=ATTEMPTS_MAX)


class WorkOrder(BaseModel):
    """What one controller is to do for one experiment; the `data` of the event ISSUED."""

    work_order_id: Name
    experiment_id: UUID
    controller_id: SubjectToken
    activities: list[Activity] = Field(min_length=1, max_length=ACTIVITIES_MAX)


class Report(BaseModel):
    """What became of one attempt of one activity; the `data` of a report.

    `sequence` orders the progress reports of an attempt; `progress` is a fraction, 0 to 1.
    """

    activity_id: Name
    attempt: int = Field(ge=1, le=ATTEMPTS_MAX)
    sequence: int = Field(default=0, ge=0, le=2**31)
    progress: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    result: JsonObject | None = None
    error: str | None = None


class CloudEvent(BaseModel):
    """The envelope of a report: CloudEvents 1.0, structured JSON, `tenant` an extension."""

    specversion: Literal["1.0"] = "1.0"
    id: Name
    source: Name
    type: str = Field(pattern=r"^laboratory\.activity\.(started|progress|completed|failed)$")
    time: Time
    tenant: SubjectToken = "default"
    data: Report

    @property
    def kind(self) -> Kind:
        """The last part of the type."""
        return cast(Kind, self.type.rpartition(".")[2])

    @property
    def event(self) -> Event:
        """The report as the lifecycle of its activity takes it."""
        data = self.data
        error = data.error and data.error[:ERROR_CHARACTERS_MAX]
        return Event(
            self.kind, data.attempt, self.time, data.sequence, data.progress, data.result, error
        )


def cloud_event(
    kind: Kind, report: Report, *, controller_id: str, tenant: str, time: datetime
) -> CloudEvent:
    """The event in which `controller_id` reports; its id is the same each time it is sent."""
    number = f".{report.sequence}" if kind == "progress" else ""
    return CloudEvent(
        id=f"{report.activity_id}.{report.attempt}.{kind}{number}"[-255:],
        source=f"/controllers/{controller_id}",
        type=f"laboratory.activity.{kind}",
        time=time,
        tenant=tenant,
        data=report,
    )


def parse_report(body: bytes) -> CloudEvent:
    """The event in a message; ValueError says what is wrong with it."""
    if len(body) > REPORT_BYTES_MAX:
        raise ValueError(f"{len(body):,} bytes are more than {REPORT_BYTES_MAX:,}")
    if b"\\u0000" in body:
        raise ValueError("a NUL character, which PostgreSQL cannot hold")
    try:
        return CloudEvent.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None


def parse_order(body: bytes) -> WorkOrder:
    """The work order in a domain event; ValueError says what is wrong with it."""
    try:
        envelope = json.loads(body)
        return WorkOrder.model_validate(envelope["data"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a CloudEvent with data: {error!r}") from None
