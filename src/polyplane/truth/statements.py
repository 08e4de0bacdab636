"""Named SQL: `sql/<file>.sql` holds blocks that begin with `-- name: <block>`."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString

import sqlalchemy as sa

_MARK = "-- name: "


@cache
def script(file: str) -> str:
    """The whole text of `sql/<file>.sql`."""
    return (files("polyplane.truth") / "sql" / f"{file}.sql").read_text(encoding="utf-8")


@cache
def _blocks(file: str) -> dict[str, LiteralString]:
    parts = ("\n" + script(file)).split("\n" + _MARK)[1:]
    return {
        name.strip(): body.strip() for name, _, body in (part.partition("\n") for part in parts)
    }


def statement(file: str, name: str) -> LiteralString:
    """One named block of `sql/<file>.sql`; KeyError when there is none."""
    return _blocks(file)[name]


@cache
def clause(file: str, name: str) -> sa.TextClause:
    """The same block for a session: its parameters are written as SQLAlchemy's are."""
    typed = re.sub(r"%\((\w+)\)s::(\w+(?:\[\])?)", r"CAST(:\1 AS \2)", statement(file, name))
    return sa.text(re.sub(r"%\((\w+)\)s", r":\1", typed))
