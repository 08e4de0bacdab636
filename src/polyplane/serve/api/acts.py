"""Who acts at the operator's routes, as audit names them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Depends

from polyplane import web
from polyplane.model.caller import Caller


async def _operator(caller: web.Caller) -> Caller:
    """What is done to the whole plane is done for no tenant in particular."""
    return replace(caller, tenant="default")


Operator = Annotated[Caller, Depends(_operator)]
"""Whoever operates the plane, with the request's id and address."""
