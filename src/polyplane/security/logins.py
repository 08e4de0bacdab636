"""The logins of truth: what they are called, and what a session of each needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NAMES: Final = ("app", "relay", "projector", "backup", "audit")
"""The logins beside the owner's."""

SESSION: Final[Mapping[str, str]] = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "idle_in_transaction_session_timeout": "1min",
}
"""What a session of the plane needs, as PostgreSQL shows it: the text of a key depends on it."""


@dataclass(frozen=True, slots=True)
class Logins:
    """Who connects to truth: role names. Those of one name are one login."""

    owner: str
    app: str
    relay: str
    projector: str
    backup: str | None = None
    audit: str | None = None

    @property
    def are_separate(self) -> bool:
        """Whether what the application does is done by a login of its own."""
        return self.app != self.owner


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"{}"'.format(name.replace('"', '""'))


def session_sql(role: str, database: str | None = None) -> list[str]:
    """What gives the sessions of `role` what the plane needs, also through a pooler that takes no
    options: statements for the owner of the role, or itself.
    """
    where = "" if database is None else f" IN DATABASE {quoted(database)}"
    return [
        f"ALTER ROLE {quoted(role)}{where} SET {name} = '{value}'"
        for name, value in SESSION.items()
    ]
