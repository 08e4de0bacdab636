"""The operator's routes: status, verify and projections, behind the home's token."""

from __future__ import annotations

from hmac import compare_digest
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from polyplane.serve.token import NAME, ops_token
from polyplane.web import PlaneOf, problem_responses

_bearer = HTTPBearer(auto_error=False, description=f"The secret in the home's file {NAME}.")


def _operator(
    plane: PlaneOf, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    secret = ops_token(plane.settings.home)
    if given is None or not compare_digest(given.credentials.encode(), secret.encode()):
        raise HTTPException(
            401,
            f"Only the operator may do this: send the secret in {NAME} as a bearer token.",
            headers={"WWW-Authenticate": "Bearer"},
        )


router = APIRouter(
    tags=["operator"], dependencies=[Depends(_operator)], responses=problem_responses(401)
)


@router.get("/status", summary="What runs")
async def status(plane: PlaneOf) -> dict[str, str]:
    """Engines, projections and streams."""
    return {"namespace": plane.namespace}
