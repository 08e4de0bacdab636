"""The door: a credential becomes a caller, or nobody comes in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest

from polyplane.access.standing import SESSION, Standing, Standings
from polyplane.errors import Forbidden, Unauthenticated
from polyplane.model.caller import Caller
from polyplane.security.roles import OPERATE, OPERATOR, Permissions


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who was let in: the caller, and by what."""

    caller: Caller
    standing: Standing | None
    """None for the operator of the home."""

    @property
    def session_id(self) -> str | None:
        """The session they came by; None for a key, and for the operator."""
        return self.standing.id if self.standing and self.standing.kind == SESSION else None


class Door:
    """Lets in who shows a session token, an API key or the operator's secret."""

    def __init__(
        self, standings: Standings, permissions: Permissions, operator_secret: Callable[[], str]
    ) -> None:
        self._standings = standings
        self._permissions = permissions
        self._operator_secret = operator_secret

    async def admit(
        self,
        credential: str | None,
        *,
        tenant: str | None = None,
        request_id: str = "",
        address: str = "",
    ) -> Admitted:
        """The caller that `credential` stands for, for `tenant` or for their first.

        Raises Unauthenticated for no credential or none that holds; Forbidden for a tenant that is
        not theirs.
        """
        if not credential:
            raise Unauthenticated(
                "Nobody has said who they are.",
                fix="Sign in, and send the token as Authorization: Bearer <token>.",
            )
        standing = await self._standings.of(credential)
        if standing is None and self._is_operator(credential):
            everything = self._permissions.everything
            caller = Caller(OPERATOR, tenant or "default", None, everything, request_id, address)
            return Admitted(caller, None)
        if standing is None:
            raise Unauthenticated("This credential does not hold (any more).", fix="Sign in again.")
        named, role = _chosen(standing, tenant)
        kind, who = ("user", standing.user) if standing.kind == SESSION else ("key", standing.id)
        caller = Caller(
            f"{kind}:{who}",
            named,
            standing.user,
            self._may(standing, role),
            request_id,
            address,
        )
        return Admitted(caller, standing)

    def _is_operator(self, credential: str) -> bool:
        return compare_digest(credential.encode(), self._operator_secret().encode())

    def _may(self, standing: Standing, role: str | None) -> frozenset[str]:
        if standing.is_administrator:
            return self._permissions.everything
        held = self._permissions.of_role.get(role or "", frozenset())
        return held if standing.scopes is None else held & frozenset(standing.scopes)


def _chosen(standing: Standing, tenant: str | None) -> tuple[str, str | None]:
    """The tenant they act for, and their role in it; an administrator needs none.

    Whoever is a member of nothing may act for nobody, and still change their password: they get
    no tenant.
    """
    if tenant is None:
        if standing.roles:
            return standing.roles[0]
        return ("default" if standing.is_administrator else ""), None
    role = dict(standing.roles).get(tenant)
    if role is None and not standing.is_administrator:
        raise Forbidden(
            "You are not a member of this organization.",
            fix="Name one of yours in X-Tenant, or leave it out for your first.",
        )
    return tenant, role


def check_operates(caller: Caller) -> None:
    """Raise Forbidden unless they may operate the whole plane."""
    caller.require(OPERATE)
