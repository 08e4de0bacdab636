"""Which login may do what to the plane's own tables, and to the application's.

What is not named here, no login but the owner's may touch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from polyplane.security.logins import NAMES, Logins, quoted, session_sql

_READ: Final = "SELECT"
_NOTE: Final = "SELECT, INSERT, UPDATE"
_KEEP: Final = "SELECT, INSERT, UPDATE, DELETE"

APP: Final[Mapping[str, str]] = {
    "saga": _KEEP,
    "saga_step": _KEEP,
    "saga_signal": _KEEP,
    "transformation": _NOTE,
    "transformation_dead": _KEEP,
    "blob": _KEEP,
    "blob_part": _KEEP,
    "data_keys": _NOTE,
    "organizations": _KEEP,
    "users": _KEEP,
    "members": _KEEP,
    "sessions": _KEEP,
    "external_identities": _KEEP,
    "api_keys": _KEEP,
    "sign_in_attempts": _KEEP,
    "identity_secret": "SELECT, INSERT",
    "repeat": _NOTE,
    "audit": "INSERT",
}
"""The application and its sagas and files. No right on the outbox, nor on any position."""

PROJECTOR: Final[Mapping[str, str]] = {
    "outbox": _READ,
    "identity": "SELECT, UPDATE",
    "lease": _KEEP,
    "relayed": _NOTE,
    "tail": _KEEP,
    "projected": _KEEP,
    "collection": _KEEP,
    "ingested": _KEEP,
    "dead": _KEEP,
    "data_keys": "SELECT, UPDATE",
    "embedding": _KEEP,
    "embedding_key": _READ,
    "embedding_usage": _NOTE,
}
"""What derives, proves and keeps the positions."""

RELAY: Final[Mapping[str, str]] = {
    "outbox": _READ,
    "outbox_rest": _READ,
    "outbox_seq_seq": _READ,
    "identity": _READ,
    "lease": _NOTE,
    "relayed": _NOTE,
    "tail": _NOTE,
    "projected": _READ,
}
"""What publishes."""

AUDIT: Final[Mapping[str, str]] = {
    "audit": _READ,
    "audit_logs": _READ,
    "audit_seal": "SELECT, INSERT",
    "audit_exported": _NOTE,
    "identity": _READ,
}
"""What seals the audit, and shows it."""

FUNCTIONS: Final[Mapping[str, str]] = {
    "polyplane.emit(text[], jsonb[])": "app",
    "polyplane.sweep_repeats()": "app",
    "polyplane.touch(text, text[], text[])": "projector",
    "polyplane.make_partition(bigint)": "relay",
    "polyplane.drop_partitions()": "relay",
}

_QUOTE: Final = "$polyplane_role$"


def statements(
    logins: Logins,
    schemas: Sequence[str],
    relations: Sequence[tuple[str, str]],
    own: Collection[str],
) -> list[str]:
    """The grants of every login but the owner's. `own` are the plane's tables that there are;
    `relations` are (quoted name, kind as in pg_class) of what is in the application's `schemas`.
    Materialized views are left out: they hold everybody's rows and no policy.
    """
    found: list[str] = []
    plain = [name for name, kind in relations if kind in ("r", "p", "v", "f")]
    sequences = [name for name, kind in relations if kind == "S"]
    rights_of = {"app": APP, "projector": PROJECTOR, "relay": RELAY, "audit": AUDIT}
    for name in NAMES:
        role = getattr(logins, name)
        if role is None or role == logins.owner:
            continue
        to = quoted(role)
        found.append(f"GRANT USAGE ON SCHEMA polyplane TO {to}")
        if name in ("app", "projector", "backup"):
            found += [f"GRANT USAGE ON SCHEMA {quoted(it)} TO {to}" for it in schemas]
            rights = _KEEP if name == "app" else _READ
            found += [f"GRANT {rights} ON {it} TO {to}" for it in plain]
        if name == "app":
            found += [f"GRANT USAGE ON SEQUENCE {it} TO {to}" for it in sequences]
        if name == "backup":
            found.append(f"GRANT SELECT ON ALL TABLES IN SCHEMA polyplane TO {to}")
            # Partitions of the outbox come and go.
            made = "ALTER DEFAULT PRIVILEGES IN SCHEMA polyplane GRANT SELECT ON"
            found += [f"{made} TABLES TO {to}", f"{made} SEQUENCES TO {to}"]
            found.append(f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA polyplane TO {to}")
            found += [f"GRANT SELECT ON SEQUENCE {it} TO {to}" for it in sequences]
        for table, rights in rights_of.get(name, {}).items():
            if table in own:
                found.append(f"GRANT {rights} ON polyplane.{quoted(table)} TO {to}")
        for function, of in FUNCTIONS.items():
            if of == name:
                found.append(f"GRANT EXECUTE ON FUNCTION {function} TO {to}")
    return found


def definition_of(statements: Sequence[str]) -> str:
    """A short name of what `statements` grant."""
    return blake2b("\n".join(statements).encode(), digest_size=8).hexdigest()


def roles_sql(logins: Logins, database: str) -> list[str]:
    """What a superuser, or whoever may create roles, runs once so that the logins exist.

    The passwords are theirs to set: `\\password NAME` in psql. Run again, it changes nothing: who
    is there already stays as they are.
    """
    found = []
    for name in NAMES:
        role = getattr(logins, name)
        if role is None or role == logins.owner:
            continue
        to = quoted(role)
        found.append(
            f"DO {_QUOTE} BEGIN"
            f" CREATE ROLE {to} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;"
            f" EXCEPTION WHEN duplicate_object THEN NULL; END {_QUOTE};"
        )
        found.append(f"GRANT CONNECT ON DATABASE {quoted(database)} TO {to};")
        found += [f"{line};" for line in session_sql(role, database)]
    return found
