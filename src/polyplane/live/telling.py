"""Who is told what of a change: rows are looked up once for all, and then as those who follow.

Truth is asked whose the changed rows are, by the plane itself; whoever may see one by that is then
asked for under row-level security, all keys of a batch at once and once for all who see the same.
A row that is gone cannot be asked for: the change says whose it was, and only they are told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from uuid import UUID

from polyplane.live.changes import Changed, note_changes
from polyplane.live.follower import Follower, event_of, event_updates, row_updates
from polyplane.model.caller import Caller
from polyplane.model.message import Message
from polyplane.model.scope import OWNER_ID, TENANT_ID, Scope
from polyplane.truth.database import Database
from polyplane.truth.visible import Visibility

Tell = Callable[[Follower], None]


class Telling:
    """Looks rows up and tells followers. `tables`: what can be followed, by `schema.table`."""

    def __init__(
        self, tables: Mapping[str, Visibility], plane_reads: Database, callers_read: Database
    ) -> None:
        self._tables = tables
        self._plane_reads = plane_reads
        self._callers_read = callers_read

    def knows(self, table: str) -> bool:
        """Whether changes of `table` can be followed."""
        return table in self._tables

    async def changes(self, messages: Sequence[Message], followers: Collection[Follower]) -> Tell:
        """What tells a follower of change messages, once everything is looked up.

        Raises TruthDown.
        """
        following = followed_tables(followers)
        found: dict[str, Changed] = {}
        note_changes(found, messages, following)
        seen = {it: await self.seen(it, found[it], following[it]) for it in found}

        def tell(follower: Follower) -> None:
            for table, changed in found.items():
                mine = seen[table].get(self.view(table, follower), {})
                follower.put(row_updates(follower, table, changed, mine))

        return tell

    async def events(self, messages: Sequence[Message], followers: Collection[Follower]) -> Tell:
        """What tells a follower of domain events."""
        found = [
            (event, len(it.body), it.sequence)
            for it in (messages if any(any(one.events()) for one in followers) else ())
            if (event := event_of(it.body)) is not None
        ]

        def tell(follower: Follower) -> None:
            for event, size, order in found:
                follower.put(event_updates(follower, event, size, order))

        return tell

    def view(self, table: str, follower: Follower) -> Scope:
        """What `follower` sees of a table: the same for all who see the same of it."""
        marks, scope = self._tables[table].marks, follower.scope
        if not marks:
            return Scope.everything
        sees_all = scope.sees_all or OWNER_ID not in marks
        return Scope(scope.tenant, None if sees_all else scope.owner, sees_all)

    async def seen(
        self, table: str, changed: Changed, followers: Sequence[Follower]
    ) -> dict[Scope, dict[str, bool]]:
        """For each view: the changed keys that may be told, and whether they are gone."""
        wanted: dict[Scope, set[str] | None] = {}
        for follower in followers:
            keys = {rows.key for _, rows in follower.rows() if rows.table == table}
            view = self.view(table, follower)
            before = wanted.get(view, set())
            wanted[view] = None if before is None or "" in keys else before | keys
        every = None in wanted.values()
        named = set().union(*(it for it in wanted.values() if it))
        asked = [key for key in changed.keys if every or key in named]
        rows = self._tables[table]
        whose = await rows.whose(self._plane_reads, asked)
        found = {}
        for view, only in wanted.items():
            mine = [key for key in asked if only is None or key in only]
            found[view] = await self._seen(rows, view, mine, whose, changed)
        return found

    async def _seen(
        self,
        rows: Visibility,
        view: Scope,
        keys: Sequence[str],
        whose: Mapping[str, Mapping[str, str | None]],
        changed: Changed,
    ) -> dict[str, bool]:
        if not rows.marks:
            return {key: key not in whose for key in keys}
        maybe = [key for key in keys if key in whose and view.sees(rows.marks, whose[key])]
        seen = await rows.seen(self._callers_read, _caller(view), maybe) if maybe else set()
        found = {}
        for key in keys:
            if key in seen:
                found[key] = False
            elif any(
                view.sees(rows.marks, {TENANT_ID: tenant, OWNER_ID: owner})
                for tenant, owner in changed.gone.get(key, ())
            ):
                found[key] = True
        return found


def followed_tables(followers: Iterable[Follower]) -> dict[str, list[Follower]]:
    """Table -> who follows any of its rows."""
    found: dict[str, list[Follower]] = {}
    for follower in followers:
        for table in dict.fromkeys(rows.table for _, rows in follower.rows()):
            found.setdefault(table, []).append(follower)
    return found


def _caller(view: Scope) -> Caller:
    """Somebody who sees just that."""
    user = UUID(view.owner) if view.owner is not None and not view.sees_all else None
    return Caller("live", view.tenant or "", user)
