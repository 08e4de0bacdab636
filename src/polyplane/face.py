"""The public face: every name that `import polyplane as pp` offers."""

from polyplane.blocking import blocking
from polyplane.errors import (
    Conflict,
    Misconfigured,
    NotFound,
    NotSettled,
    PolyplaneError,
    Refused,
    Unavailable,
)
from polyplane.model.application import Application
from polyplane.model.blob import Blob
from polyplane.model.caller import Caller
from polyplane.model.items import Entry, Hit, Range, Vector
from polyplane.model.message import Inbound, Message
from polyplane.model.position import Token
from polyplane.model.projection import Cached, Edges, Nodes, Vectors
from polyplane.model.saga import Saga
from polyplane.model.stream import Stream
from polyplane.model.table import Model, key, metadata
from polyplane.plane import Plane
from polyplane.settings import Settings
from polyplane.truth.session import Write

__all__ = [
    "Application",
    "Blob",
    "Cached",
    "Caller",
    "Conflict",
    "Edges",
    "Entry",
    "Hit",
    "Inbound",
    "Message",
    "Misconfigured",
    "Model",
    "Nodes",
    "NotFound",
    "NotSettled",
    "Plane",
    "PolyplaneError",
    "Range",
    "Refused",
    "Saga",
    "Settings",
    "Stream",
    "Token",
    "Unavailable",
    "Vector",
    "Vectors",
    "Write",
    "blocking",
    "key",
    "metadata",
]
