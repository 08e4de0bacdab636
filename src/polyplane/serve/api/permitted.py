"""No route of an application without a permission: seen to when the API is built."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute, iter_route_contexts

from polyplane.errors import Misconfigured
from polyplane.model.application import Application
from polyplane.web import permissions_of

RESERVED: Final = frozenset({"auth", "blobs", "events", "graph", "ops", "organizations"})
"""What applications cannot be called: these routes are the plane's own."""


def declared_routes(application: Application) -> APIRouter:
    """The routes of `application`.

    Raises Misconfigured for one that asks for no permission, or for one that the application does
    not declare.
    """
    assert application.routes is not None
    if application.name in RESERVED:
        raise Misconfigured(f"An application cannot be called {application.name!r}.")
    router: APIRouter = application.routes()
    for route in iter_route_contexts(router.routes):  # those of routers in it, too
        if not isinstance(route.original_route, APIRoute):
            raise Misconfigured(
                f"{route.path} of {application.name} is no route that can ask for a permission.",
                fix="Declare it with router.get, router.post and the like.",
            )
        asked = permissions_of(route.dependant)
        where = f"{', '.join(sorted(route.methods or ()))} {route.path} of {application.name}"
        if not asked:
            raise Misconfigured(
                f"{where} asks for no permission.",
                fix=f'Add dependencies=[permission("{application.name}.read")] to it.',
            )
        if unknown := sorted(asked - application.permissions.keys()):
            raise Misconfigured(
                f"{where} asks for {unknown[0]!r}, which the application does not declare.",
                fix="Add it to permissions= of the application.",
            )
    return router
