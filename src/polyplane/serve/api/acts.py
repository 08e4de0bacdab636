"""Who acts at the operator's routes, as audit names them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from polyplane.model.caller import Caller
from polyplane.serve.token import OPERATOR


async def _operator(request: Request) -> Caller:
    return Caller(
        OPERATOR,
        request_id=request.scope.get("polyplane.request_id", ""),
        address=request.client.host if request.client else "",
    )


Operator = Annotated[Caller, Depends(_operator)]
"""Whoever has the secret of the home, with the request's id and address."""
