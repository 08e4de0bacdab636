"""The operator's route that lets programs outside come to NATS."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from polyplane.errors import Misconfigured
from polyplane.ops.credentials import sender_rights
from polyplane.security.realm import Sender
from polyplane.serve.api.acts import Operator
from polyplane.web import PlaneOf, problem_responses

router = APIRouter(tags=["operator"], prefix="/senders")


class SenderUrl(BaseModel):
    """Where one program finds NATS."""

    user: str
    url: str = Field(description="With its password: for nobody else.")


@router.post(
    "", summary="Let a program outside send to an application", responses=problem_responses(404)
)
async def admit(
    plane: PlaneOf,
    by: Operator,
    application: Annotated[str, Query(description="What it sends to.")],
    tenant: Annotated[str, Query(description="Whose messages and points it sends.")],
    name: Annotated[str, Query(description="Its own, as in its subjects.")],
) -> SenderUrl:
    """A user of its own on the home's NATS; asked again, the same one. Nothing is restarted."""
    sender = Sender(application, tenant, name)
    rights = sender_rights(plane.declared.applications, plane.namespace, sender)
    engines, user = plane.opened.engines, sender.user(plane.namespace)
    if engines is None:
        raise Misconfigured(
            "NATS is not one of this home's engines.",
            fix="Make a user there: polyplane credentials print nats.",
        )
    async with plane.audit.act(by, "sender.admit", "sender", user):
        url = await engines.admit(user, rights)
        for durable, subject in rights.takes:
            await plane.opened.feed.hold(durable, subject)
        return SenderUrl(user=user, url=url)
