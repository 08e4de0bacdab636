"""A route of an application that asks for no permission is noticed before anybody calls it."""

from __future__ import annotations

import pytest
from fastapi import APIRouter

from polyplane.__main__ import PROGRAM
from polyplane.errors import Misconfigured
from polyplane.model.application import Application
from polyplane.serve.api.permitted import RESERVED, declared_routes
from polyplane.web import permission

DECLARED = {"notes.use": "viewer"}


def router_of(asked: str | None) -> APIRouter:
    """One route."""
    router = APIRouter(dependencies=[permission(asked)] if asked else [])

    @router.get("/open")
    async def of_all() -> str:
        return "anybody"

    return router


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize(
    "asked, declared", [(None, DECLARED), ("notes.use", {}), ("notes.write", DECLARED)]
)
def test_a_route_without_a_declared_permission_is_refused(
    asked: str | None, declared: dict[str, str], depth: int
) -> None:
    router = router_of(asked)
    for _ in range(depth):
        outer = APIRouter()
        outer.include_router(router, prefix="/in")
        router = outer
    notes = Application("notes", routes=lambda: router, permissions=declared)
    with pytest.raises(Misconfigured, match="/open of notes asks for"):
        declared_routes(notes)


def test_what_is_asked_for_around_a_route_counts() -> None:
    outer = APIRouter()
    outer.include_router(router_of(None), dependencies=[permission("notes.use")])
    declared_routes(Application("notes", routes=lambda: outer, permissions=DECLARED))


def test_what_can_ask_for_nothing_is_refused() -> None:
    router = APIRouter()
    router.add_route("/raw", lambda request: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(Misconfigured, match="/raw of notes"):
        declared_routes(Application("notes", routes=lambda: router))


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_an_application_does_not_take_our_place(name: str) -> None:
    with pytest.raises(Misconfigured, match=name):
        declared_routes(Application(name, routes=APIRouter))


def test_every_shipped_application_is_whole() -> None:
    for application in PROGRAM.load_applications():
        if application.routes is not None:
            assert declared_routes(application).routes
