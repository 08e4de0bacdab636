"""What the laboratory's API takes and gives: strict coming in, complete going out."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid4

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from polyplane.domains.laboratory.wire import (
    ACTIVITIES_MAX,
    PARAMETERS_BYTES_MAX,
    ActivityId,
    SubjectToken,
)

TEXT_CHARACTERS_MAX: Final = 20_000
OBJECT_BYTES_MAX: Final = 64 * 1024
WORK_ORDERS_MAX: Final = 50

ExperimentStatus = Literal["draft", "running", "analysing", "completed", "failed", "archived"]
ActivityStatus = Literal["scheduled", "running", "retrying", "completed", "failed"]
RiskLevel = Literal["R0", "R1", "R2", "R3", "R4"]
LearningType = Literal["process", "material", "equipment", "comparison", "safety"]


def _at_most(limit_bytes: int) -> AfterValidator:
    def check(value: dict[str, Any]) -> dict[str, Any]:
        try:
            size = len(orjson.dumps(value))
        except TypeError as error:
            raise ValueError(f"must be JSON with integers of at most 64 bits ({error})") from None
        if size > limit_bytes:
            raise ValueError(f"must be at most {limit_bytes:,} bytes of JSON")
        return value

    return AfterValidator(check)


def _left_out(description: str | None = None) -> Any:
    """A field that may be left out, though it may not be null."""
    return Field(default_factory=lambda: None, description=description)


Name = Annotated[str, StringConstraints(min_length=1, max_length=255, strip_whitespace=True)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=TEXT_CHARACTERS_MAX)]
Object = Annotated[dict[str, Any], _at_most(OBJECT_BYTES_MAX)]
Parameters = Annotated[dict[str, Any], _at_most(PARAMETERS_BYTES_MAX)]
Confidence = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Quantity = Annotated[Decimal, Field(ge=0, max_digits=38, decimal_places=18)]


class Given(BaseModel):
    """What comes in: a field nobody knows is a mistake."""

    model_config = ConfigDict(extra="forbid")

    def changes(self) -> dict[str, Any]:
        """The fields the caller named, with their values."""
        return self.model_dump(exclude_unset=True)


class Shown(BaseModel):
    """What goes out: the columns of a row."""

    model_config = ConfigDict(from_attributes=True)

    tenant_id: str
    created_at: datetime
    updated_at: datetime


class UserGiven(Given):
    """A person."""

    id: UUID | None = Field(None, description="Your own id, so that a repetition is refused.")
    name: Name = Field(examples=["Ada Lovelace"])
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=320)] = Field(
        examples=["ada@example.org"]
    )


class UserShown(Shown):
    """A person, as stored."""

    id: UUID
    name: str
    email: str


class ExperimentGiven(Given):
    """A question to nature."""

    id: UUID | None = Field(None, description="Your own id, so that a repetition is refused.")
    name: Name = Field(examples=["What does compression cost?"])
    hypothesis: Text = Field(examples=["Higher levels stop paying long before the last one."])
    description: Text | None = None
    status: Literal["draft"] = Field("draft", description="Experiments begin as drafts.")
    risk_level: RiskLevel = "R1"
    created_by: UUID | None = Field(None, description="A user.")


class ExperimentChange(Given):
    """What may be changed of an experiment; what is left out stays."""

    name: Name = _left_out()
    hypothesis: Text = _left_out()
    description: Text | None = None
    status: ExperimentStatus = _left_out("By hand, only to `archived`.")
    risk_level: RiskLevel = _left_out()
    created_by: UUID | None = None


class ExperimentShown(Shown):
    """An experiment, as stored."""

    id: UUID
    name: str
    hypothesis: str
    description: str | None
    status: str
    risk_level: str
    created_by: UUID | None


class MaterialGiven(Given):
    """Something experiments are made with."""

    id: UUID | None = Field(None, description="Your own id, so that a repetition is refused.")
    name: Name = Field(examples=["Alumina powder"])
    type: Annotated[str, StringConstraints(min_length=1, max_length=100)] = Field(
        examples=["ceramic"]
    )
    properties: Object | None = Field(None, examples=[{"grain_um": 0.4}])
    safety_data: Object | None = None


class MaterialChange(Given):
    """What may be changed of a material; what is left out stays."""

    name: Name = _left_out()
    type: Annotated[str, StringConstraints(min_length=1, max_length=100)] = _left_out()
    properties: Object | None = None
    safety_data: Object | None = None


class MaterialShown(Shown):
    """A material, as stored."""

    id: UUID
    name: str
    type: str
    properties: dict[str, Any] | None
    safety_data: dict[str, Any] | None


class UseGiven(Given):
    """How much of a material an experiment uses, and as what."""

    quantity: Quantity | None = Field(None, examples=["1.5"])
    unit: Annotated[str, StringConstraints(max_length=50)] | None = Field(None, examples=["kg"])
    role: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        None, examples=["sample"]
    )


class UseShown(Shown):
    """A material of an experiment, as stored. Quantities are decimal text: exact."""

    experiment_id: UUID
    material_id: UUID
    quantity: Decimal | None
    unit: str | None
    role: str | None


class ActivityGiven(Given):
    """One thing for a controller to do."""

    activity_id: ActivityId = Field(
        default_factory=lambda: str(uuid4()), description="Unique in the tenant."
    )
    name: Name = Field(examples=["zlib level 6"])
    parameters: Parameters = Field(default_factory=dict, examples=[{"codec": "zlib", "level": 6}])


class OrderGiven(Given):
    """What one controller is to do."""

    controller_id: SubjectToken = Field(examples=["controller-1"])
    activities: list[ActivityGiven] = Field(min_length=1, max_length=ACTIVITIES_MAX)


class StartGiven(Given):
    """The work of an experiment."""

    work_orders: list[OrderGiven] = Field(min_length=1, max_length=WORK_ORDERS_MAX)


class ActivityShown(Shown):
    """An activity and what was reported of it."""

    id: UUID
    experiment_id: UUID
    work_order_id: str
    activity_id: str
    controller_id: str
    activity_name: str
    parameters: dict[str, Any]
    status: ActivityStatus
    progress: float
    result: dict[str, Any] | None
    error: str | None
    retry_count: int
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None


class LearningGiven(Given):
    """What an experiment taught."""

    id: UUID | None = Field(None, description="Your own id, so that a repetition is refused.")
    experiment_id: UUID
    type: LearningType = Field(examples=["process"])
    insight: Text = Field(examples=["Higher sintering temperature improves density"])
    confidence: Confidence = Field(examples=[0.92])


class LearningChange(Given):
    """What may be changed of a learning; what is left out stays."""

    type: LearningType = _left_out()
    insight: Text = _left_out()
    confidence: Confidence = _left_out()


class LearningShown(Shown):
    """A learning, as stored."""

    id: UUID
    experiment_id: UUID
    type: str
    insight: str
    confidence: float


class Question(Given):
    """A search by meaning."""

    question: Text = Field(examples=["Is unpacking an archive quick?"])
    min_confidence: Confidence = Field(0.0, examples=[0.7])
    type: LearningType | None = None
    experiment_id: UUID | None = None
    limit: int = Field(10, ge=1, le=100)


class LearningFound(BaseModel):
    """One hit: the learning as the vector store holds it; `score` is the cosine similarity."""

    id: UUID
    score: float
    insight: str
    type: str
    experiment_id: UUID
    confidence: float
    created_at: datetime


class Found(BaseModel):
    """The hits of a search, best first."""

    hits: list[LearningFound]


class Taken(BaseModel):
    """Points that are durable; they can be queried a moment later."""

    points: int
    sequence: int = Field(description="Of the last message, in the stream.")
    duplicate: bool = Field(description="This Idempotency-Key was taken already.")


class Bucket(BaseModel):
    """A time bucket of a profile."""

    bucket: datetime
    avg: float
    min: float
    max: float
    count: int


class Profile(BaseModel):
    """A metric of an activity over time."""

    activity_id: str
    metric_name: str
    bucket_s: int
    buckets: list[Bucket]


class LatestPoint(BaseModel):
    """The newest point of a metric."""

    time: datetime
    metric_name: str
    value: float
    unit: str | None
    activity_id: str | None = None
    controller_id: str | None = None
    tags: dict[str, Any] | None = None


class LatestMetrics(BaseModel):
    """The newest point of each metric of an experiment."""

    experiment_id: UUID
    metrics: list[LatestPoint]


class LoggedEvent(BaseModel):
    """The newest event of a type in the log of an experiment."""

    time: datetime
    type: str
    activity_id: str | None
    controller_id: str
    attempt: int | None
    detail: dict[str, Any] | None


class Summary(BaseModel):
    """What is where of an experiment."""

    experiment_id: UUID
    status: str
    activities: dict[str, int] = Field(description="By status.")
    materials: int
    learnings: int
    telemetry_points: int
    metric_points: int
    events_logged: int


class Analysed(BaseModel):
    """What an analysis found."""

    experiment_id: UUID
    findings: list[str]
