"""What a cache offers for short-lived states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from polyplane.model.live import StateKind


class StateStore(Protocol):
    """Short-lived states, each in one place, changed as a whole."""

    async def put(
        self, tenant: str, kind: StateKind, id: str, fields: Mapping[str, bytes], *, merge: bool
    ) -> None:
        """Replace the fields of a state, or with `merge` those that are given, and tell listeners
        of `Channel("states", tenant, <kind>)` its id. The time to live begins anew.
        """
        ...

    async def get(
        self, tenant: str, kind: StateKind, ids: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """The states that there are, by id."""
        ...

    async def drop(self, tenant: str, kind: StateKind, id: str) -> None:
        """End a state before its time; listeners are told its id."""
        ...
