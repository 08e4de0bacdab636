"""What the API of agents takes and gives: strict coming in, complete going out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from polyplane.domains.agents.models import STEPS_MAX
from polyplane.domains.agents.states import DiscussionStatus, OperationStatus, StepStatus

OBJECT_BYTES_MAX: Final = 64 << 10
TEXT_CHARACTERS_MAX: Final = 20_000


def _small(value: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:
        raise ValueError(f"must be JSON with integers of at most 64 bits ({error})") from None
    if size > OBJECT_BYTES_MAX:
        raise ValueError(f"must be at most {OBJECT_BYTES_MAX:,} bytes of JSON")
    return value


def _left_out(description: str | None = None) -> Any:
    """A field that may be left out, though it may not be null."""
    return Field(default_factory=lambda: None, description=description)


Name = Annotated[str, StringConstraints(min_length=1, max_length=255, strip_whitespace=True)]
Title = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
Kind = Annotated[str, StringConstraints(min_length=1, max_length=50, strip_whitespace=True)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
Text = Annotated[str, StringConstraints(max_length=TEXT_CHARACTERS_MAX)]
Object = Annotated[dict[str, Any], AfterValidator(_small)]
Strength = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, examples=[0.8])]

OWN_ID: Final = "Your own id, so that a repetition is refused."


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


class AgentGiven(Given):
    """Somebody who does operations."""

    id: UUID | None = Field(None, description=OWN_ID)
    name: Name = Field(examples=["Librarian"])
    type: Kind = Field(examples=["researcher"])
    description: Text | None = None


class AgentChange(Given):
    """What may be changed of an agent; what is left out stays."""

    name: Name = _left_out()
    type: Kind = _left_out()
    description: Text | None = None


class AgentShown(Shown):
    """An agent, as stored."""

    id: UUID
    name: str
    type: str
    description: str | None


class ToolGiven(Given):
    """Something an agent can use."""

    id: UUID | None = Field(None, description=OWN_ID)
    name: Name = Field(examples=["Concept search"])
    capability: Word = Field(
        examples=["concepts.search"], description="What it does: the code behind it."
    )
    description: Text | None = None


class ToolChange(Given):
    """What may be changed of a tool; what is left out stays."""

    name: Name = _left_out()
    description: Text | None = None


class ToolShown(Shown):
    """A tool, as stored."""

    id: UUID
    name: str
    capability: str
    description: str | None


class UseShown(Shown):
    """That an agent can use a tool."""

    agent_id: UUID
    tool_id: UUID


class DiscussionGiven(Given):
    """Where agents talk."""

    id: UUID | None = Field(None, description=OWN_ID)
    title: Title = Field(examples=["How do we store what agents know?"])


class DiscussionChange(Given):
    """What may be changed of a discussion; what is left out stays."""

    title: Title = _left_out()
    status: DiscussionStatus = _left_out("What is archived stays so.")


class DiscussionShown(Shown):
    """A discussion, as stored."""

    id: UUID
    title: str
    status: DiscussionStatus
    source: str | None


class PartShown(Shown):
    """That an agent takes part in a discussion."""

    discussion_id: UUID
    agent_id: UUID


class ConceptGiven(Given):
    """Something that is known."""

    id: UUID | None = Field(None, description=OWN_ID)
    name: Title = Field(examples=["outbox"])
    category: Word = Field(examples=["pattern"])
    summary: Text | None = Field(None, examples=["Changes are written with the rows they are of."])


class ConceptChange(Given):
    """What may be changed of a concept; what is left out stays."""

    name: Title = _left_out()
    category: Word = _left_out()
    summary: Text | None = None


class ConceptShown(Shown):
    """A concept, as stored."""

    id: UUID
    name: str
    category: str
    summary: str | None
    source: str | None
    mentions: int


class RelationGiven(Given):
    """How strongly one concept relates to another: above 0, to 1."""

    strength: Strength


class RelationShown(Shown):
    """A relation of concepts, as stored."""

    id: UUID
    source_id: UUID
    target_id: UUID
    type: str
    strength: float
    mentions: int


class AppearanceShown(Shown):
    """That a concept appears in a discussion."""

    concept_id: UUID
    discussion_id: UUID
    mentions: int


class StepGiven(Given):
    """One step of an operation: a tool, and what it is given."""

    tool_id: UUID
    name: Name = Field(examples=["Look for what is known"])
    arguments: Object = Field(default_factory=dict, examples=[{"question": "durable queues"}])


class OperationGiven(Given):
    """What an agent is to do."""

    id: UUID | None = Field(None, description=OWN_ID)
    agent_id: UUID
    type: Kind = Field(examples=["research"])
    context: Object = Field(default_factory=dict, description="Whatever belongs to it.")
    steps: list[StepGiven] = Field(min_length=1, max_length=STEPS_MAX)


class OperationShown(Shown):
    """An operation, as stored."""

    id: UUID
    type: str
    status: OperationStatus
    agent_id: UUID
    user_id: UUID | None
    saga_id: UUID | None
    context: dict[str, Any]
    results: dict[str, Any] | None
    error: str | None
    steps_total: int
    steps_done: int
    started_at: datetime | None
    completed_at: datetime | None


class StepShown(Shown):
    """A step of an operation, as stored."""

    id: UUID
    operation_id: UUID
    step_number: int
    tool_id: UUID
    name: str
    status: StepStatus
    details: dict[str, Any]
    attempts: int
    error: str | None
    started_at: datetime | None
    completed_at: datetime | None


class Progress(BaseModel):
    """What an operation is at, as `operation:<id>` in the cache has it."""

    status: OperationStatus
    progress: float = Field(ge=0, le=1)
    lastUpdate: datetime


class Seen(BaseModel):
    """Something the graph shows."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID


class ToolSeen(Seen):
    """A tool an agent can use."""

    name: str
    capability: str


class AgentSeen(Seen):
    """An agent that can do something, and with which tool."""

    name: str
    type: str
    tool: ToolSeen


class DiscussionSeen(Seen):
    """A discussion, and who takes part where that was asked."""

    title: str
    status: DiscussionStatus
    agent_id: UUID | None


class ConceptSeen(Seen):
    """A concept."""

    name: str
    category: str


class RelatedSeen(ConceptSeen):
    """A concept that another relates to."""

    strength: float
    type: str


class HopSeen(BaseModel):
    """One relation of a way, from concept to concept as it points."""

    source_id: UUID
    target_id: UUID
    type: str
    strength: float


class WaySeen(BaseModel):
    """How two concepts are connected: the concepts in order, and a relation between each two."""

    concepts: list[ConceptSeen]
    relations: list[HopSeen]


class Question(Given):
    """A search by meaning."""

    question: Annotated[str, StringConstraints(min_length=1, max_length=2_000)] = Field(
        examples=["how are events kept in order?"]
    )
    category: Word | None = None
    limit: int = Field(10, ge=1, le=100)


class ConceptHit(ConceptSeen):
    """A hit; `score` is the cosine similarity."""

    score: float
