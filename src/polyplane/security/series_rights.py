"""Who may do what on a ClickHouse server: grants. Pure."""

from __future__ import annotations

from typing import Final

MAKES: Final = (
    *("CREATE DATABASE", "CREATE TABLE", "ALTER ADD COLUMN", "ALTER ADD INDEX", "ALTER TTL"),
    *("SELECT", "INSERT"),
)
"""What a plane does: it makes its tables, adds to them, never drops any."""


def grants(database: str, *, to: str) -> list[str]:
    """What the plane may: in its database, which may not be there yet, and nowhere else."""
    return [f"GRANT {', '.join(MAKES)} ON {_quoted(database)}.* TO {_quoted(to)}"]


def statements(database: str, user: str) -> list[str]:
    """What an administrator runs once, having put in passwords. The reader is for people."""
    reader = f"{user}-reader"
    made = "IDENTIFIED WITH sha256_password BY 'PASSWORD'"
    return [
        f"CREATE USER {_quoted(user)} {made};",
        *(f"{line};" for line in grants(database, to=user)),
        f"CREATE USER {_quoted(reader)} {made} SETTINGS readonly = 2;",
        f"GRANT SELECT ON {_quoted(database)}.* TO {_quoted(reader)};",
    ]


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"
