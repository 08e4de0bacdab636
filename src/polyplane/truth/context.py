"""Who acts, told to PostgreSQL for the length of one transaction."""

from __future__ import annotations

import re
from typing import Final

import sqlalchemy as sa

from polyplane.model.caller import Caller
from polyplane.truth.statements import statement

SET: Final = statement("context", "set")
"""For psycopg, with what `settings_of` gives."""
SET_IN_SESSION: Final = sa.text(re.sub(r"%\((\w+)\)s", r":\1", SET))
"""The same for SQLAlchemy."""


def settings_of(caller: Caller) -> dict[str, str]:
    """What policies, triggers and audit read of `caller`; '' for what there is not."""
    return {
        "actor": caller.actor,
        "tenant": caller.tenant,
        "user": str(caller.user or ""),
        "sees_all": "on" if caller.sees_all else "",
        "request": caller.request_id,
        "address": caller.address,
    }
