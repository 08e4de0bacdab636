"""The API: a plane and its applications as one FastAPI app."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

from fastapi import Depends, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from polyplane.edge.limits import count_address
from polyplane.model.application import Application
from polyplane.model.projection import Nodes
from polyplane.ops.metrics import Metrics
from polyplane.plane import Plane
from polyplane.serve.api import (
    api_keys,
    auth,
    blobs,
    databases,
    events,
    graph,
    oidc,
    operator,
    organizations,
    problems,
    watch,
)
from polyplane.serve.api.body import storable
from polyplane.serve.api.front import Front
from polyplane.serve.api.gate import Gate
from polyplane.serve.api.overload import Overload, places_of
from polyplane.serve.api.permitted import declared_routes
from polyplane.serve.api.repeats import Repeats, replay
from polyplane.truth.repeats import Repeated
from polyplane.web import Problem, problem_responses

PREFIX: Final = "/api/v1"

_SWAGGER: Final[dict[str, Any]] = {
    "displayRequestDuration": True,
    "filter": True,
    "tryItOutEnabled": True,
    "validatorUrl": None,  # else it asks a stranger's server to judge our schema
}


class Api(FastAPI):
    """FastAPI behind the gate, with problem documents in its schema."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def build_middleware_stack(self) -> ASGIApp:
        """Put the gate outside of everything, so that it sees every response."""
        front = Front(Repeats(super().build_middleware_stack()), self.origins)
        bounded = Overload(front, self.state.metrics, self.state.places)
        return Gate(bounded, self.state.metrics, self.hosts)

    def openapi(self) -> dict[str, Any]:
        """The schema, with the problem document that every operation may end in."""
        schema = super().openapi()
        known = schema.setdefault("components", {}).setdefault("schemas", {})
        if "Problem" not in known:
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            known |= {**problem.pop("$defs", {}), "Problem": problem}
            for methods in schema["paths"].values():
                for method, operation in methods.items():
                    ended = problem_responses(*_of_all(method, operation))
                    told = {str(status): it for status, it in ended.items()}
                    operation["responses"] = {**told, **operation["responses"]}
        return schema


def _of_all(method: str, operation: dict[str, Any]) -> tuple[int, ...]:
    """What every operation of its kind may end in before it is looked at: see `Front`."""
    bodies = (400, 413, 415) if "requestBody" in operation else ()
    return (*bodies, 414, 431) if method == "get" else (*bodies, 403, 414, 431)


def create_app(
    plane: Plane,
    applications: Sequence[Application],
    *,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
) -> FastAPI:
    """The API of an open `plane`: its applications' routes, health, metrics, operator's routes.

    With `hosts` it answers only requests that name one of them as their host; pages of other sites
    may call it if their origin is one of `origins`.
    """
    app = Api(
        title="polyplane",
        version=version("polyplane"),
        description="One truth, many engines, and the proof that they agree.",
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        max_body_size=problems.BODY_MAX_BYTES,
        dependencies=[Depends(count_address), Depends(storable)],
        responses=problem_responses(422, 429, 500, 503),
    )
    app.hosts = frozenset(host.lower() for host in hosts)
    app.origins = frozenset(origins)
    app.state.plane = plane
    app.state.metrics = Metrics()
    app.state.places = places_of(plane.settings)
    problems.install(app)
    app.add_exception_handler(Repeated, replay)
    app.include_router(watch.router)
    app.include_router(databases.router)
    app.include_router(operator.router, prefix=f"{PREFIX}/ops")
    app.include_router(auth.router, prefix=f"{PREFIX}/auth")
    app.include_router(oidc.router, prefix=f"{PREFIX}/auth/oidc")
    app.include_router(api_keys.router, prefix=f"{PREFIX}/auth/api-keys")
    app.include_router(organizations.router, prefix=f"{PREFIX}/organizations")
    events.install(app, f"{PREFIX}/events")
    if plane.declared.of_kind(Nodes):
        app.include_router(graph.router, prefix=f"{PREFIX}/graph")
    if plane.declared.blobs:
        app.include_router(blobs.router, prefix=f"{PREFIX}/blobs")
    for application in applications:
        if application.routes is not None:
            app.include_router(
                declared_routes(application),
                prefix=f"{PREFIX}/{application.name}",
                tags=[application.name],
                responses=problem_responses(401, 403),
            )
    _add_docs(app)
    return app


def _add_docs(app: FastAPI) -> None:
    """Swagger at /docs, from the package that contains it: no stranger's server is asked."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url="swagger/swagger-ui-bundle.js",
        swagger_css_url="swagger/swagger-ui.css",
        swagger_favicon_url="swagger/favicon-32x32.png",
        swagger_ui_parameters=_SWAGGER,
    )
    app.mount("/swagger", StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return page

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("docs")
