"""What can be followed as it happens: rows, events, states; where a follower stands. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, NamedTuple, Self

import orjson

from polyplane.errors import Misconfigured, Refused, TooLarge
from polyplane.model.table import Model, table_name, table_of

STATE_BYTES_MAX: Final = 16 << 10
"""The JSON of one state."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TYPE: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_SCALARS: Final = (str, int, float, bool)


class FeedPosition(NamedTuple):
    """Up to where a follower was told: the last orders of both streams, in that epoch."""

    epoch: int
    changes: int
    events: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.changes}.{self.events}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position written `epoch.changes.events`. Raises Refused when it is not one."""
        found = re.fullmatch(r"(\d{1,9})\.(\d{1,15})\.(\d{1,15})", text, re.ASCII)
        if found is None:
            raise Refused(
                "This is no position of live updates.",
                field="after",
                fix="Send the last id that was received, unchanged; or none.",
            )
        return cls(*map(int, found.groups()))


@dataclass(frozen=True, slots=True, eq=False)
class StateKind:
    """A kind of short-lived state: a few fields under `key`, which holds `{id}`, for `ttl_s`.

    `fields` are the names and the types of the values (str, int, float or bool). The plane writes
    the time of each change (ISO 8601, UTC) in the field `stamp`, if one is named. The time to live
    begins anew with each change.
    """

    name: str
    fields: Mapping[str, type]
    key: str = ""
    ttl_s: int = 3600
    stamp: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Misconfigured(f"{self.name!r} is no name for a kind of state.")
        if not 1 <= self.ttl_s <= 30 * 86_400:
            raise Misconfigured(f"The state {self.name} would live {self.ttl_s} s.")
        if not re.fullmatch(r"[a-z][a-z0-9_:-]{0,62}:\{id\}", self.pattern):
            raise Misconfigured(f"{self.pattern!r} is no key of a state.", fix="As: operation:{id}")
        for name, kind in self.fields.items():
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name) or kind not in _SCALARS:
                raise Misconfigured(
                    f"{self.name}.{name} is no field of a state.", fix="Use str, int, float, bool."
                )
        if self.stamp and self.fields.get(self.stamp) is not str:
            raise Misconfigured(f"{self.name}.{self.stamp} must be a field of type str.")

    @property
    def pattern(self) -> str:
        """The key with `{id}` in it; the kind's name before it if none was given."""
        return self.key or f"{self.name}:{{id}}"

    def key_of(self, id: str) -> str:
        """The key of one state. Raises Refused for an id that cannot be part of a key."""
        if not _ID.fullmatch(id):
            raise Refused(
                "An id of a state has letters, digits and ._~- only, 128 at most.", field="id"
            )
        return self.pattern.replace("{id}", id)

    def checked(self, given: Mapping[str, Any]) -> dict[str, bytes]:
        """The fields of `given` as JSON. Raises Refused for one that is not declared, or is not
        of its type; TooLarge for more than STATE_BYTES_MAX.
        """
        found = {}
        for name, value in given.items():
            kind = self.fields.get(name)
            if kind is None or name == self.stamp:
                raise Refused(f"{self.name} has no field {name!r} to be set.", field=name)
            fits = isinstance(value, int | float if kind is float else kind)
            if isinstance(value, bool):
                fits = kind is bool
            if not fits or (isinstance(value, float) and not isfinite(value)):
                raise Refused(f"{self.name}.{name} is of type {kind.__name__}.", field=name)
            try:
                found[name] = orjson.dumps(value)
            except TypeError as error:
                raise Refused(f"{self.name}.{name} is no JSON: {error}.", field=name) from error
        if sum(map(len, found.values())) > STATE_BYTES_MAX:
            raise TooLarge(f"A state has at most {STATE_BYTES_MAX} bytes.", field=self.name)
        return found


OPERATION: Final = StateKind(
    "operation",
    {"status": str, "progress": float, "lastUpdate": str},
    key="operation:{id}",
    ttl_s=3600,
    stamp="lastUpdate",
)
"""What an operation is at."""
AGENT: Final = StateKind(
    "agent",
    {"status": str, "task": str, "progress": float, "lastUpdate": str},
    key="agent:{id}",
    ttl_s=3600,
    stamp="lastUpdate",
)
"""What an agent is at."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Changes of a model's rows, or of the one with that canonical `key`."""

    model: type[Model]
    key: str = ""

    @property
    def table(self) -> str:
        """`schema.table`, as changes have it."""
        return table_name(table_of(self.model))


@dataclass(frozen=True, slots=True)
class Events:
    """Domain events of a type, or below it; of one `subject`, if one is given."""

    type: str
    subject: str = ""

    def __post_init__(self) -> None:
        if not _TYPE.fullmatch(self.type):
            raise Misconfigured(f"{self.type!r} is no type of events.")


@dataclass(frozen=True, slots=True)
class States:
    """States of a kind, or the one with that `id`."""

    kind: StateKind
    id: str = ""

    def __post_init__(self) -> None:
        if self.id:
            self.kind.key_of(self.id)


Source = Rows | Events | States


@dataclass(frozen=True, slots=True)
class Topic:
    """What an application lets people follow who have the `permission`, under which name.

    They ask for `<application>.<name>`, or for one thing of it: `<application>.<name>/<key>`, the
    key being a row's, an event's subject or a state's id.
    """

    name: str
    of: Source
    permission: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Misconfigured(f"{self.name!r} is no name for a topic.")

    def about(self, key: str) -> Source:
        """What is followed of it: all, or what is called `key`. Raises Refused for no such key."""
        if not key:
            return self.of
        match self.of:
            case Rows(model):
                return Rows(model, key)
            case Events(type):
                return Events(type, key)
            case States(kind):
                return States(kind, key)


@dataclass(frozen=True, slots=True)
class Followed:
    """A source, and what its follower calls it."""

    name: str
    of: Source

    @classmethod
    def plain(cls, of: Source) -> Self:
        """Named after itself: a table, a type of events, a kind of state."""
        match of:
            case Rows():
                return cls(of.table, of)
            case Events(type):
                return cls(type, of)
            case States(kind):
                return cls(kind.name, of)


@dataclass(frozen=True, slots=True)
class Update:
    """One thing that happened to what is followed.

    A row was changed (`key`; `gone`: it is not there any more, or not to be seen), an event took
    place (`event`), or a state is now `state`.
    """

    topic: str
    key: str = ""
    gone: bool = False
    event: Mapping[str, Any] | None = None
    state: Mapping[str, Any] | None = None
    order: int = field(default=0, compare=False)

    @property
    def one(self) -> tuple[str, str]:
        """What a later update of the same replaces; each event is one of its own."""
        return self.topic, str(self.event["id"]) if self.event is not None else f"/{self.key}"


@dataclass(frozen=True, slots=True)
class Batch:
    """What a follower is told at once. Afterwards they stand at `position`.

    `lagged`: topics of which something was left out, since it was too much: read them anew.
    `reset`: why the follower could not go on from where they were; what they follow is to be read
    anew.
    """

    position: FeedPosition
    updates: Sequence[Update] = ()
    lagged: Sequence[str] = ()
    reset: str = ""
