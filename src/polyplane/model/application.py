"""An application: what it declares, in one list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polyplane.model.live import Topic
from polyplane.model.message import Inbound
from polyplane.model.projection import Projection
from polyplane.model.saga import Saga
from polyplane.model.stream import Stream
from polyplane.model.table import Model
from polyplane.model.transformation import Transformation
from polyplane.model.wrapping import KeyWrapping


@dataclass(frozen=True, slots=True)
class Application:
    """The table of contents of an application on the plane.

    `keys` wraps data keys in the place of the settings' encryption keys, as a key service does.
    `schema` is the PostgreSQL schema of its tables; `migrations` the dotted package of its
    Alembic versions; `routes` builds its FastAPI router (called only when an API is served), each
    of whose routes asks for one of the `permissions`: `{"laboratory.read": "viewer"}`, the name
    and the least role that has it. `topics` are what may be followed live, and by whom: nothing
    else can be, over HTTP. `orders` are the events that programs outside take, each those whose
    subject is its name: `{"laboratory.work_order.issued": "controller"}`, the type and what their
    durable consumers are called: `controller-<tenant>-<name>`. `follows` are models that no
    projection reads, and entries of the request cache depend on.
    """

    name: str
    schema: str = "public"
    models: Sequence[type[Model]] = ()
    projections: Sequence[type[Projection[Any]]] = ()
    streams: Sequence[type[Stream]] = ()
    inbound: Sequence[Inbound] = ()
    sagas: Sequence[type[Saga[Any]]] = ()
    transformations: Sequence[type[Transformation[Any, Any]]] = ()
    migrations: str | None = None
    routes: Callable[[], Any] | None = None
    keys: KeyWrapping | None = None
    permissions: Mapping[str, str] = field(default_factory=dict)
    topics: Sequence[Topic] = ()
    orders: Mapping[str, str] = field(default_factory=dict)
    follows: Sequence[type[Model]] = ()
