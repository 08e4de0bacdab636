"""Profiles, and how integrations are set."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Path

import polyplane as pp
from polyplane.domains.assistant.matters import integrations
from polyplane.domains.assistant.matters.desk import AtDesk
from polyplane.domains.assistant.matters.models_people import Integration, UserProfile
from polyplane.domains.assistant.matters.shapes import (
    IntegrationGiven,
    IntegrationShown,
    ProfileChange,
    ProfileGiven,
    ProfileShown,
)
from polyplane.domains.assistant.permissions import READ, WRITE
from polyplane.marks import Secret
from polyplane.web import After, Limit, Page, check_if_match, etag_of, problem_responses, repeatable

router = APIRouter()
Kind = Annotated[str, Path(max_length=50)]


@router.post(
    "/profiles", dependencies=[WRITE, repeatable], status_code=201, responses=problem_responses(409)
)
async def create_profile(given: ProfileGiven, desk: AtDesk) -> ProfileShown:
    """Add one's profile. Conflict when there is one."""
    columns = given.model_dump(exclude={"owner_id"})
    owner_id = desk.owner(given.owner_id)
    row = UserProfile(tenant_id=desk.tenant, owner_id=owner_id, **columns)
    return await desk.add(row, ProfileShown)


@router.get("/profiles", dependencies=[READ])
async def list_profiles(desk: AtDesk, after: After = None, limit: Limit = 50) -> Page[ProfileShown]:
    """Profiles, newest first: one's own, or all for who may see all."""
    return await desk.page(UserProfile, ProfileShown, after, limit)


@router.get("/profiles/{profile_id}", dependencies=[READ], responses=problem_responses(404))
async def read_profile(profile_id: UUID, desk: AtDesk) -> ProfileShown:
    """One profile."""
    return await desk.read(UserProfile, profile_id, ProfileShown)


@router.patch(
    "/profiles/{profile_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def change_profile(profile_id: UUID, change: ProfileChange, desk: AtDesk) -> ProfileShown:
    """Change what is named. With If-Match, only if nobody changed it meanwhile."""
    return await desk.change(UserProfile, profile_id, change.changes(), ProfileShown)


@router.delete(
    "/profiles/{profile_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_profile(profile_id: UUID, desk: AtDesk) -> None:
    """Delete a profile."""
    await desk.delete(UserProfile, profile_id)


def _conditions(desk: AtDesk, kind: str) -> list[sa.ColumnElement[bool]]:
    return [
        Integration.tenant_id == desk.tenant,
        Integration.kind == kind,
        Integration.owner_id.is_not_distinct_from(desk.caller.user),
    ]


@router.get("/integrations", dependencies=[READ])
async def list_integrations(
    desk: AtDesk, after: After = None, limit: Limit = 50
) -> Page[IntegrationShown]:
    """Integrations that are set, newest first."""
    return await desk.page(Integration, IntegrationShown, after, limit)


@router.get("/integrations/{kind}", dependencies=[READ], responses=problem_responses(404))
async def read_integration(kind: Kind, desk: AtDesk) -> IntegrationShown:
    """One's own settings of one kind of integration."""
    async with desk.plane.acting(desk.caller).read() as session:
        row = await session.scalar(sa.select(Integration).where(*_conditions(desk, kind)))
    if row is None:
        raise pp.NotFound("This integration is not set.", field="kind")
    desk.response.headers["ETag"] = etag_of(row)
    return IntegrationShown.model_validate(row)


@router.put(
    "/integrations/{kind}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def set_integration(kind: Kind, given: IntegrationGiven, desk: AtDesk) -> IntegrationShown:
    """Set one's integration of a kind, as a whole; credentials stay unless they are given."""
    settings = integrations.checked(kind, given.settings)
    async with desk.plane.acting(desk.caller).write() as tx:
        asked = sa.select(Integration).where(*_conditions(desk, kind)).with_for_update()
        row = (await tx.scalars(asked)).one_or_none()
        if row is None:
            row = Integration(tenant_id=desk.tenant, owner_id=desk.caller.user, kind=kind)
            tx.add(row)
        else:
            check_if_match(desk.request, row)
        row.enabled, row.settings = given.enabled, settings
        if given.credentials is not None:
            row.credentials = Secret(
                {name: it.get_secret_value() for name, it in given.credentials.items()}
            )
    desk.versioned(row, tx)
    return IntegrationShown.model_validate(row)


@router.delete(
    "/integrations/{kind}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def unset_integration(kind: Kind, desk: AtDesk) -> None:
    """Forget an integration with its credentials."""
    async with desk.plane.acting(desk.caller).write() as tx:
        asked = sa.select(Integration).where(*_conditions(desk, kind)).with_for_update()
        row = (await tx.scalars(asked)).one_or_none()
        if row is None:
            raise pp.NotFound("This integration is not set.", field="kind")
        check_if_match(desk.request, row)
        await tx.delete(row)
    desk.token.give(tx.token)
