"""What a monitor asks: is it alive, is it ready, how much has it done."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field

from polyplane.ops.health import Status
from polyplane.serve.api.figures import samples
from polyplane.web import PlaneOf

router = APIRouter(tags=["health"])


class Liveness(BaseModel):
    """Alive, and what each engine says."""

    status: Status = Field(examples=["healthy"])
    database: dict[str, Status] = Field(examples=[{"postgresql": "healthy", "lancedb": "healthy"}])


class EngineReadiness(BaseModel):
    """One engine's answer. What it said in words is for the operator: it may name addresses."""

    model_config = ConfigDict(from_attributes=True)

    engine: str = Field(examples=["lancedb"])
    role: str = Field(examples=["vector"])
    status: Status
    latency_ms: float
    durable: bool = Field(description="False: it may lose items by design, or gives no barrier.")


class Readiness(BaseModel):
    """Every engine's answer."""

    status: Status
    engines: list[EngineReadiness]


@router.get("/healthz", summary="Liveness, and the state of every engine")
async def healthz(plane: PlaneOf) -> Liveness:
    """Always 200 while the process lives: an engine that is down is no reason to kill us."""
    health = await plane.health()
    return Liveness(status=health.status, database={e.engine: e.status for e in health.engines})


@router.get("/readyz", summary="Readiness", responses={503: {"model": Readiness}})
async def readyz(plane: PlaneOf, response: Response) -> Readiness:
    """200 when truth and feed answer and the flows run, else 503."""
    health = await plane.health()
    if health.status == "failed":
        response.status_code = 503
    engines = [EngineReadiness.model_validate(engine) for engine in health.engines]
    return Readiness(status=health.status, engines=engines)


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(request: Request, plane: PlaneOf) -> Response:
    """Text format: HTTP counts and latencies, positions and lags, items applied, engines up."""
    page = request.app.state.metrics.render(await samples(plane))
    return Response(page, media_type=CONTENT_TYPE_LATEST)
