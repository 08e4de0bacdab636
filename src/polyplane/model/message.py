"""A message of the feed, and what applications do with those that come from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One message as read: `sequence` is its place in its stream.

    `redelivered`: this process was given it before. Another one may have been given it, too.
    """

    subject: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    sequence: int = 0
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class Inbound:
    """What outside programs send to `{namespace}.inbound.{application}.{name}.>`.

    The messages are durable before they are acknowledged to their sender. `handle` gets them in
    order, at least once, at most 200 at a time; they are let go of after it returns, and given to
    it again, after a pause, when it raises. Not `outside`: nobody sends any
    but the application, to itself.
    """

    name: str
    handle: Callable[[Any, Sequence[Message]], Awaitable[None]]
    outside: bool = True
