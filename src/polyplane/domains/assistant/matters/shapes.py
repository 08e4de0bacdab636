"""What the API takes and gives of people, tasks, messages and time: strict in, complete out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
)

from polyplane.domains.assistant.matters.recurrence import RULE_MAX, zone_of
from polyplane.domains.assistant.matters.states import Channel, TaskStatus, TokenState

T = TypeVar("T")

OBJECT_BYTES_MAX: Final = 64 << 10
TEXT_CHARACTERS_MAX: Final = 100_000
TOKEN_CHARACTERS_MAX: Final = 64 << 10


def small(value: T) -> T:
    """`value`, if it is JSON that is not too large."""
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:
        raise ValueError(f"must be JSON with integers of at most 64 bits ({error})") from None
    if size > OBJECT_BYTES_MAX:
        raise ValueError(f"must be at most {OBJECT_BYTES_MAX:,} bytes of JSON")
    return value


def _storable(at: datetime) -> datetime:
    """What can be said as an instant wherever it comes, and be added to."""
    if not 1900 <= at.year < 2900:
        raise ValueError("must be between 1900 and 2900")
    return at


def _zone(name: str) -> str:
    zone_of(name)
    return name


def left_out(description: str | None = None, **more: Any) -> Any:
    """A field that may be left out, though it may not be null."""
    return Field(default_factory=lambda: None, description=description, **more)


Moment = Annotated[AwareDatetime, AfterValidator(_storable)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255, strip_whitespace=True)]
Title = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
Line = Annotated[str, StringConstraints(max_length=500)]
Text = Annotated[str, StringConstraints(max_length=TEXT_CHARACTERS_MAX)]
Address = Annotated[str, StringConstraints(min_length=1, max_length=320, strip_whitespace=True)]
ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Object = Annotated[dict[str, Any], AfterValidator(small)]
Zone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_zone)]
Locale = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$")]
Rule = Annotated[str, StringConstraints(min_length=1, max_length=RULE_MAX)]
Token = Annotated[SecretStr, Field(min_length=1, max_length=TOKEN_CHARACTERS_MAX)]

Kept = Annotated[bool, BeforeValidator(lambda secret: secret is not None)]

OWNER: Final = "Whose it is to be, for programs and administrators; else yours."
IMPORTED: Final = "What it is called where it comes from: it comes in once."


class Given(BaseModel):
    """What comes in: a field nobody knows is a mistake."""

    model_config = ConfigDict(extra="forbid")

    def changes(self) -> dict[str, Any]:
        """The fields the caller named, with their values."""
        return self.model_dump(exclude_unset=True)


class OwnedGiven(Given):
    """What comes in, and may be for somebody else."""

    owner_id: UUID | None = Field(None, description=OWNER)


class Shown(BaseModel):
    """What goes out: the columns of a row."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    tenant_id: str
    created_at: datetime
    updated_at: datetime


class OwnedShown(Shown):
    """What goes out of what somebody owns; null: it is everybody's in the tenant."""

    owner_id: UUID | None


class ProfileGiven(OwnedGiven):
    """What a user is called, and how they want things."""

    display_name: Name = Field(examples=["Ada"])
    locale: Locale = Field("en", examples=["en-GB"])
    zone: Zone = Field("UTC", examples=["Europe/London"])
    preferences: Object = Field(default_factory=dict)


class ProfileChange(Given):
    """What may be changed of a profile; what is left out stays."""

    display_name: Name = left_out()
    locale: Locale = left_out(examples=["en-GB"])
    zone: Zone = left_out(examples=["Europe/London"])
    preferences: Object = left_out()


class ProfileShown(OwnedShown):
    """A profile, as stored."""

    display_name: str
    locale: str
    zone: str
    preferences: dict[str, Any]


class ConsentGiven(Given):
    """At which provider somebody has an account that the assistant may come to."""

    provider: Name = Field(examples=["example"], description="As the setting `oauth` names it.")
    account: Name = Field(examples=["ada@example.org"], description="What you call the account.")


class ConsentShown(BaseModel):
    """Where to send the browser, and what it comes back with; for ten minutes."""

    url: str
    state: str


class ConsentFinished(Given):
    """What somebody came back from the provider with."""

    state: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    code: Annotated[SecretStr, Field(min_length=1, max_length=4_096)]


class TokenGiven(OwnedGiven):
    """Tokens that somebody has already. They are stored encrypted, and never shown again."""

    provider: Name = Field(examples=["example"])
    account: Name = Field(examples=["ada@example.org"])
    access_token: Token = Field(examples=["an access token"])
    refresh_token: Token | None = Field(None, examples=["a refresh token"])
    expires_s: int | None = Field(None, ge=0, le=315_360_000, examples=[3600])
    scopes: list[Annotated[str, StringConstraints(max_length=255)]] = Field(
        default_factory=list, max_length=100
    )


class TokenShown(OwnedShown):
    """What is known of the tokens for an account; of the tokens, nothing."""

    provider: str
    account: str
    state: TokenState
    scopes: list[str]
    expires_at: datetime | None
    refreshed_at: datetime | None
    failure: str | None


class IntegrationGiven(Given):
    """How an integration is to behave. `credentials` are stored encrypted, and never shown."""

    enabled: bool = True
    settings: Object = Field(default_factory=dict, description="By its kind; see the docs.")
    credentials: dict[Name, Token] | None = Field(None, max_length=20)


class IntegrationShown(OwnedShown):
    """An integration, as stored."""

    kind: str
    enabled: bool
    settings: dict[str, Any]
    credentials: Kept = Field(description="Whether there are any.")


class TaskGiven(OwnedGiven):
    """Something to be done."""

    title: Title = Field(examples=["Call the plumber"])
    body: Text | None = None
    status: TaskStatus = "todo"
    priority: int = Field(3, ge=1, le=5, description="1 is the most urgent.")
    due_at: Moment | None = None
    details: Object = Field(default_factory=dict)
    external_id: ExternalId | None = Field(None, description=IMPORTED)


class TaskChange(Given):
    """What may be changed of a task; what is left out stays."""

    title: Title = left_out()
    body: Text | None = None
    status: TaskStatus = left_out()
    priority: int = left_out(ge=1, le=5)
    due_at: Moment | None = None
    details: Object = left_out()


class TaskShown(OwnedShown):
    """A task, as stored."""

    title: str
    body: str | None
    status: TaskStatus
    priority: int
    due_at: datetime | None
    completed_at: datetime | None
    details: dict[str, Any]
    external_id: str | None


class ThreadGiven(OwnedGiven):
    """Messages that belong together."""

    channel: Channel
    subject: Annotated[str, StringConstraints(max_length=998)] = Field("", examples=["The kettle"])


class ThreadShown(OwnedShown):
    """A thread, as stored."""

    channel: Channel
    subject: str


class MessageGiven(Given):
    """One message of a thread."""

    sender: Address = Field(examples=["ada@example.org"])
    recipients: list[Address] = Field(default_factory=list, max_length=200)
    body: Text = Field(examples=["It is broken again."])
    sent_at: Moment = left_out("Now, if it is left out.")
    read: bool = False
    external_id: ExternalId | None = Field(None, description=IMPORTED)


class MessageChange(Given):
    """Whether it has been read."""

    read: bool


class MessageShown(OwnedShown):
    """A message, as stored; unread without `read_at`."""

    thread_id: UUID
    sender: str
    recipients: list[str]
    body: str
    sent_at: datetime
    read_at: datetime | None
    external_id: str | None


class EventGiven(OwnedGiven):
    """Something that takes place: once, or by a rule in the time of its zone."""

    title: Title = Field(examples=["Stand-up"])
    place: Line | None = None
    body: Text | None = None
    starts_at: Moment = Field(examples=["2026-01-05T08:00:00Z"])
    ends_at: Moment = Field(examples=["2026-01-05T08:15:00Z"])
    zone: Zone = Field("UTC", examples=["Europe/Berlin"])
    all_day: bool = Field(False, description="From midnight to midnight in its zone.")
    busy: bool = Field(True, description="Whether one is not free meanwhile.")
    recurrence: Rule | None = Field(None, examples=["FREQ=WEEKLY;BYDAY=MO,WE;COUNT=10"])
    external_id: ExternalId | None = Field(None, description=IMPORTED)


class EventChange(Given):
    """What may be changed of an event; what is left out stays."""

    title: Title = left_out()
    place: Line | None = None
    body: Text | None = None
    starts_at: Moment = left_out()
    ends_at: Moment = left_out()
    zone: Zone = left_out(examples=["Europe/Berlin"])
    all_day: bool = left_out()
    busy: bool = left_out()
    recurrence: Rule | None = Field(None, examples=["FREQ=DAILY"])


class EventShown(OwnedShown):
    """An event, as stored; `last_ends_at` null: it goes on for ever."""

    title: str
    place: str | None
    body: str | None
    starts_at: datetime
    ends_at: datetime
    zone: str
    all_day: bool
    busy: bool
    recurrence: str | None
    last_ends_at: datetime | None
    external_id: str | None


class OverrideGiven(Given):
    """What is otherwise of one time of a recurring event: cancelled, unless it says until when."""

    occurs_at: Moment = Field(description="When it would take place by its rule.")
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    title: Title | None = None


class OverrideShown(OwnedShown):
    """What is otherwise, as stored."""

    event_id: UUID
    occurs_at: datetime
    cancelled: bool
    starts_at: datetime | None
    ends_at: datetime | None
    title: str | None


class OccurrenceShown(BaseModel):
    """One time that an event takes place; `occurs_at` is when it would by its rule."""

    model_config = ConfigDict(from_attributes=True)

    event_id: UUID
    title: str
    place: str | None
    occurs_at: datetime
    starts_at: datetime
    ends_at: datetime
    zone: str
    all_day: bool
    busy: bool
    moved: bool


class SpanShown(BaseModel):
    """From one instant up to another."""

    model_config = ConfigDict(from_attributes=True)

    starts_at: datetime
    ends_at: datetime


class TimeShown(BaseModel):
    """When one is busy, and when free."""

    busy: list[SpanShown]
    free: list[SpanShown]
