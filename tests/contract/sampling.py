"""Which of many cases are tried in each run; the others only by `make long`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def sampled(cases: Sequence[Any], ids: Sequence[str], *, every: int = 4) -> list[Any]:
    """All `cases` as parameters; all but every so manieth of them long. A case of several
    parameters is a tuple.
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            id=name,
            marks=() if at % every == 0 else pytest.mark.long,
        )
        for at, (case, name) in enumerate(zip(cases, ids, strict=True))
    ]
