"""The operator's token: one secret per home, in a file only its owner may read."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from polyplane.model.caller import Caller
from polyplane.security.roles import OPERATOR
from polyplane.security.secret_file import OPS_TOKEN as NAME, secret_in

__all__ = ["NAME", "OPERATOR", "OPERATOR_HERE", "ops_token"]

OPERATOR_HERE: Final = Caller(OPERATOR)
"""At the command line, when no `up` runs."""


def ops_token(home: Path) -> str:
    """The token of `home`; made, with mode 0600, when there is none."""
    return secret_in(home / NAME)
