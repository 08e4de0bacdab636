"""`Idempotency-Key`, by draft-ietf-httpapi-idempotency-key-header-07: what is done once only."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Any, Final

from fastapi import Header, Request

from polyplane.access.door import Admitted
from polyplane.edge.routes import marks_of, repeatable_by
from polyplane.model.digest import canonical
from polyplane.truth.repeats import Repeat

REPEAT: Final = "polyplane.repeat"
"""Where a request's scope has what is to be done once only."""
HEADER: Final = "Idempotency-Key"
_KEY: Final = r'^("[\x20-\x21\x23-\x5b\x5d-\x7e]{1,255}"|[\x21\x23-\x7e]{1,255})$'


async def _declare(
    idempotency_key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            pattern=_KEY,
            description="Sent again with the same key within a day, it is done once, and answered "
            "as the first time.",
            examples=['"8e03978e-40d5-43e8-bc93-6894a57f9324"'],
        ),
    ] = None,
) -> None:
    """Nothing: who is admitted takes it along."""


repeatable: Any = repeatable_by(_declare)
"""A dependency of a route that writes: `dependencies=[permission("notes.write"), repeatable]`.

What the route writes by `plane.acting(caller)` is committed with its answer, or not at all when
that is an error. So it must not wait for stores to settle on what it has just written.
"""


async def with_repeat(request: Request, admitted: Admitted) -> Admitted:
    """`admitted`, who does this request once only if it says so and its route declares it."""
    given = request.headers.get(HEADER, "")
    if not re.match(_KEY, given) or not marks_of(request).is_repeatable:
        return admitted
    # As it came: what is equal but written otherwise is another request.
    asked = [request.method, request.url.path, request.url.query]
    fingerprint = sha256(canonical(asked) + await request.body()).digest()
    repeat = Repeat(given.strip('"'), fingerprint)
    request.scope[REPEAT] = repeat
    return replace(admitted, caller=replace(admitted.caller, repeat=repeat))
