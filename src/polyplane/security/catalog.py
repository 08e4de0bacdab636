"""What is wrong with a database's row security, told from what its catalog says: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from polyplane.security.logins import Logins, quoted
from polyplane.security.policies import PROGRAM, SERVICE, TENANT, Guarded

AGAIN = "Run: polyplane migrate up"


class Fault(NamedTuple):
    """Something through which rows could be seen or written by whom they are not for."""

    what: str
    fix: str


class PolicyFound(NamedTuple):
    """A policy as it is. `noted` is what we wrote down of it when we made it: `definition` and
    what its conditions were then, which are now `actual`.
    """

    name: str
    permissive: bool
    roles: Sequence[str]
    noted: str
    actual: str

    @property
    def definition(self) -> str:
        """What it was made from; '' when it is not ours."""
        words = self.noted.split()
        return words[1] if len(words) == 3 and words[0] == "polyplane" else ""

    @property
    def is_as_made(self) -> bool:
        """Whether nobody has changed it since we made it."""
        return bool(self.definition) and self.noted.split()[2] == self.actual


class RelationFound(NamedTuple):
    """A guarded table, or a partition of it: what the catalog says."""

    table: str
    relation: str
    enabled: bool
    forced: bool
    owner: str
    policies: Sequence[PolicyFound]

    @property
    def ours(self) -> dict[str, PolicyFound]:
        """Our policies, by name."""
        return {it.name: it for it in self.policies if it.name in (TENANT, PROGRAM, SERVICE)}


class ViewFound(NamedTuple):
    """A view that shows rows of a guarded table."""

    name: str
    is_materialized: bool
    is_invoker: bool
    app_may_read: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What the catalog says of the guarded tables and of the application's login."""

    relations: Sequence[RelationFound]
    views: Sequence[ViewFound]
    definers: Sequence[str]
    """Functions with their owner's rights and no fixed search_path."""
    bypasses: Sequence[str]
    """Why the application's login is not held to policies: superuser, BYPASSRLS, or a member."""
    owns: Sequence[str]
    """The guarded tables that belong to it, or to a role that it is a member of."""
    outbox: bool
    """Whether it has a right on the outbox."""


def faults(found: Found, logins: Logins) -> list[Fault]:
    """Why this plane must not run on the database."""
    wrong: list[Fault] = []
    for it in found.relations:
        wrong += _of_relation(it, logins)
    for view in found.views:
        if view.is_materialized and view.app_may_read and logins.are_separate:
            why = f"The materialized view {view.name} shows every tenant's rows to {logins.app}."
            fix = f"REVOKE SELECT ON {view.name} FROM {quoted(logins.app)};"
            wrong.append(Fault(why, fix))
        if not view.is_materialized and not view.is_invoker:
            why = f"The view {view.name} shows rows with its owner's rights."
            wrong.append(Fault(why, f"ALTER VIEW {view.name} SET (security_invoker = true);"))
    for function in found.definers:
        why = f"The function {function} is SECURITY DEFINER and has no search_path."
        fix = f"ALTER FUNCTION {function} SET search_path = pg_catalog, pg_temp;"
        wrong.append(Fault(why, fix))
    if logins.are_separate:
        wrong += [Fault(why, _OTHER_LOGIN) for why in not_held(found, logins)]
    return wrong


_OTHER_LOGIN = (
    "Use a login of its own in POLYPLANE_DATABASE_APP_URL. `polyplane migrate roles` tells how."
)


def not_held(found: Found, logins: Logins) -> list[str]:
    """Why the application's login could get past the policies."""
    told = [f"The login {logins.app} is {why}." for why in found.bypasses]
    told += [f"The login {logins.app} can act as the owner of {table}." for table in found.owns]
    if found.outbox:
        told.append(f"The login {logins.app} has a right on polyplane.outbox.")
    return told


def _of_relation(it: RelationFound, logins: Logins) -> list[Fault]:
    told = []
    if not it.enabled:
        told.append("has no row security")
    if not it.forced:
        told.append("does not force row security on its owner")
    ours = it.ours
    wanted = [TENANT, PROGRAM] + ([SERVICE] if logins.projector != logins.owner else [])
    for name in wanted:
        if name not in ours:
            told.append(f"lacks the policy {name}")
        elif not ours[name].is_as_made:
            told.append(f"has another policy {name} than it was given")
    if SERVICE in wanted and SERVICE in ours and logins.projector not in ours[SERVICE].roles:
        told.append(f"has no policy for {logins.projector}")
    for policy in it.policies:
        is_ours = policy.name in ours
        if not is_ours and policy.permissive and {"public", logins.app} & {*policy.roles}:
            told.append(f"has the further policy {policy.name}, which lets more be seen")
    return [Fault(f"The table {it.relation} {why}.", _fix_of(it, why)) for why in told]


def _fix_of(it: RelationFound, why: str) -> str:
    if "further policy" in why:
        name = why.split("further policy ")[1].split(",")[0]
        return f"DROP POLICY {quoted(name)} ON {it.relation}; or make it AS RESTRICTIVE."
    return AGAIN


def needs(it: RelationFound, definition: str, count: int, *, anyway: bool) -> bool:
    """Whether a table is to be given its policies: it has none of ours, or others were meant.

    One that somebody has changed is left as it is, for the plane not to run on, unless `anyway`.
    """
    ours = it.ours.values()
    if not ours or any(policy.definition not in ("", definition) for policy in ours):
        return True
    whole = it.enabled and it.forced and len(ours) == count
    return anyway and not (whole and all(policy.is_as_made for policy in ours))


__all__ = ["Fault", "Found", "Guarded", "PolicyFound", "RelationFound", "ViewFound", "faults"]
