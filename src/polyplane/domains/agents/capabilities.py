"""What tools do: the code behind `Tool.capability`, one explicit list.

A capability takes a `Task` and returns a JSON object. It may be asked again for the same task,
after an error or a crash: `Task.key` is the same then, and `Task.write` is refused to whoever was
overtaken. One that changes something brings its `undo`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Final
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlalchemy.dialects.postgresql import insert

import polyplane as pp
from polyplane.domains.agents import queries
from polyplane.domains.agents.models import Concept, Discussion, DiscussionParticipant
from polyplane.saga import SagaRefused

CONCEPTS_MAX: Final = 50


class Arguments(BaseModel):
    """What a step gives its tool: a field nobody knows is a mistake."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Task:
    """One step as its tool sees it. `results` are those of the steps before, by number."""

    plane: pp.Plane
    caller: pp.Caller
    operation_id: UUID
    agent_id: UUID
    step_number: int
    attempt: int
    arguments: Any
    results: Mapping[int, Mapping[str, Any]]
    write: Callable[[], AbstractAsyncContextManager[pp.Write]]
    """A transaction that commits only while this attempt is the step's; Conflict otherwise."""

    @property
    def key(self) -> UUID:
        """The same at every attempt of this step, and at its undo; nowhere else."""
        return uuid5(self.operation_id, f"step:{self.step_number}")

    def result_of(self, step_number: int) -> Mapping[str, Any]:
        """What a step before gave. Raises SagaRefused for one that is not before."""
        if step_number not in self.results:
            raise SagaRefused(f"There is no result of a step {step_number} yet.")
        return self.results[step_number]


Perform = Callable[[Task], Awaitable[dict[str, Any]]]
Undo = Callable[[Task], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Capability:
    """Something a tool can do. `arguments` is what it takes; `undo` must be right also when
    `perform` never took effect.
    """

    name: str
    arguments: type[Arguments]
    perform: Perform
    undo: Undo | None = None

    def checked(self, given: Mapping[str, Any], field: str) -> Arguments:
        """`given` as arguments. Raises Refused naming `field` and the argument."""
        try:
            return self.arguments.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join([field, *map(str, first["loc"])])
            raise pp.Refused(f"{self.name}: {first['msg']}.", field=where) from error


Limit = Annotated[int, Field(ge=1, le=CONCEPTS_MAX)]
Name = Annotated[str, Field(min_length=1, max_length=500)]


class SearchArguments(Arguments):
    """A question, and how many concepts."""

    question: Annotated[str, Field(min_length=1, max_length=2_000)]
    limit: Limit = 5


async def search(task: Task) -> dict[str, Any]:
    """The concepts nearest in meaning to a question."""
    asked: SearchArguments = task.arguments
    hits = await queries.search_concepts(task.plane, task.caller, asked.question, limit=asked.limit)
    found = [
        {"id": hit.key, "name": hit.tags["name"], "score": round(hit.score, 4)} for hit in hits
    ]
    return {"concepts": found}


class NavigateArguments(Arguments):
    """A concept, or the step before that found some: the first of them is taken."""

    concept_id: UUID | None = None
    from_step: Annotated[int, Field(ge=1)] | None = None
    limit: Limit = 10

    @model_validator(mode="after")
    def _one_of_both(self) -> NavigateArguments:
        if (self.concept_id is None) == (self.from_step is None):
            raise ValueError("either concept_id or from_step must be given")
        return self


async def navigate(task: Task) -> dict[str, Any]:
    """The concepts a concept relates to, the strongest first."""
    asked: NavigateArguments = task.arguments
    concept_id = asked.concept_id
    if asked.from_step is not None:
        found = task.result_of(asked.from_step).get("concepts") or ()
        if not found:
            return {"concepts": []}
        concept_id = UUID(found[0]["id"])
    assert concept_id is not None
    related = await queries.related_concepts(task.plane, task.caller, concept_id, limit=asked.limit)
    return {
        "concept_id": str(concept_id),
        "concepts": [
            {"id": str(it.id), "name": it.name, "strength": it.strength} for it in related
        ],
    }


class NoteArguments(Arguments):
    """A concept to be noted."""

    name: Name
    category: Annotated[str, Field(min_length=1, max_length=100)] = "note"
    summary: Annotated[str, Field(max_length=20_000)] | None = None


async def note(task: Task) -> dict[str, Any]:
    """Note a concept, once."""
    asked: NoteArguments = task.arguments
    async with task.write() as tx:
        row = {"id": task.key, "tenant_id": tx.tenant, **asked.model_dump()}
        await tx.execute(insert(Concept).values(row).on_conflict_do_nothing())
    return {"concept_id": str(task.key)}


async def forget(task: Task) -> None:
    """Delete what was noted."""
    async with task.plane.acting(task.caller).write() as tx:
        if (row := await tx.get(Concept, task.key, for_update=True)) is not None:
            await tx.delete(row)


class DiscussArguments(Arguments):
    """A discussion to be opened."""

    title: Name


async def discuss(task: Task) -> dict[str, Any]:
    """Open a discussion in which the agent takes part, once."""
    asked: DiscussArguments = task.arguments
    async with task.write() as tx:
        made = {"id": task.key, "tenant_id": tx.tenant, "title": asked.title}
        await tx.execute(insert(Discussion).values(made).on_conflict_do_nothing())
        part = {"discussion_id": task.key, "agent_id": task.agent_id, "tenant_id": tx.tenant}
        await tx.execute(insert(DiscussionParticipant).values(part).on_conflict_do_nothing())
    return {"discussion_id": str(task.key)}


async def withdraw(task: Task) -> None:
    """Delete the discussion that was opened."""
    async with task.plane.acting(task.caller).write() as tx:
        if (row := await tx.get(Discussion, task.key, for_update=True)) is not None:
            await tx.delete(row)


class MeasureArguments(Arguments):
    """A text."""

    text: Annotated[str, Field(max_length=50_000)]


async def measure(task: Task) -> dict[str, Any]:
    """How long a text is, and its digest."""
    text: str = task.arguments.text
    return {
        "characters": len(text),
        "words": len(text.split()),
        "lines": len(text.splitlines()),
        "sha256": sha256(text.encode(errors="surrogatepass")).hexdigest(),
    }


class DrillArguments(Arguments):
    """How often it fails before it succeeds; or that it refuses for good."""

    failures: Annotated[int, Field(ge=0, le=100)] = 0
    refuses: bool = False


async def drill(task: Task) -> dict[str, Any]:
    """Fail on purpose, to see that what should happen then does."""
    asked: DrillArguments = task.arguments
    if asked.refuses:
        raise SagaRefused("The drill refuses, as it was told to.")
    if task.attempt <= asked.failures:
        raise ConnectionError(f"The drill fails {asked.failures} times; this was {task.attempt}.")
    return {"attempt": task.attempt}


CAPABILITIES: Final = (
    Capability("concepts.search", SearchArguments, search),
    Capability("concepts.navigate", NavigateArguments, navigate),
    Capability("concepts.note", NoteArguments, note, forget),
    Capability("discussions.open", DiscussArguments, discuss, withdraw),
    Capability("text.measure", MeasureArguments, measure),
    Capability("drill", DrillArguments, drill),
)
"""What comes with the application. Another list: `agents(capabilities=...)`."""
