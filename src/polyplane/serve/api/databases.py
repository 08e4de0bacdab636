"""What a monitor of databases asks, in the words of seed 001: how they are, and how fast."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from polyplane.ops.health import EngineHealth, Status
from polyplane.plane import Plane
from polyplane.serve.api.figures import cache_figures
from polyplane.truth.pooling import PoolFigures
from polyplane.web import PlaneOf

router = APIRouter(tags=["health"], prefix="/health")


class _Figures(BaseModel):
    """Named as the seed names them."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


class ConnectionPool(_Figures):
    """Connections of this process."""

    active: int = Field(description="At work.")
    idle: int
    waiting: int = Field(description="How many wait for one.")


class PostgresHealth(_Figures):
    """Truth."""

    status: Status
    engine: str = Field(examples=["postgresql"])
    connection_pool: ConnectionPool


class GraphHealth(_Figures):
    """The graph, in whichever engine it is."""

    status: Status
    engine: str = Field(examples=["ladybug"])
    connections: int = Field(description="At work; 1 for an engine in this process.")
    query_time: float = Field(description="How long a query took just now, in milliseconds.")


class CacheHealth(_Figures):
    """The cache, in whichever engine it is."""

    status: Status
    engine: str = Field(examples=["valkey"])
    used_memory: int = Field(description="Of its server, in bytes; 0 when it does not say.")
    hit_rate: float = Field(description="Of all reads of its server since it started; or 0.")


class DatabaseHealth(_Figures):
    """Each engine that the plane uses; null is one that it does not."""

    postgres: PostgresHealth
    neo4j: GraphHealth | None = Field(None, alias="neo4j")  # else it would be neo4J
    redis: CacheHealth | None = None


class QueryLatency(_Figures):
    """Of the last calls of this process to PostgreSQL, 2,048 of each login; in milliseconds."""

    avg: float
    p95: float
    p99: float


class PoolUse(_Figures):
    """Of the connections of this process to PostgreSQL."""

    utilization: float = Field(description="The share of those it may have that are at work.")
    wait_time: float = Field(description="For one of them, on average, in milliseconds.")


class CacheEfficiency(_Figures):
    """How well the request cache of this process does, since it started."""

    hit_rate: float = Field(description="The share of reads that it answered; 0 before any.")
    miss_rate: float = Field(description="The share that had to be loaded.")
    eviction_rate: float = Field(
        description="Keys a second that its server lets go of to make room, whoever's, since it"
        " started; 0 when it does not say."
    )


class DatabaseMetrics(_Figures):
    """Figures of the engines, as a monitor wants them."""

    query_latency: QueryLatency
    connection_pool: PoolUse
    cache_efficiency: CacheEfficiency


@router.get("/databases", summary="Truth, graph and cache, and how busy they are")
async def health_databases(plane: PlaneOf) -> DatabaseHealth:
    """As seed 001 has it; `/readyz` has all engines."""
    by_role = {it.role: it for it in (await plane.health()).engines}
    truth, graph, cache = by_role["truth"], by_role.get("graph"), by_role.get("cache")
    pools = _pools(plane)
    return DatabaseHealth(
        postgres=PostgresHealth(
            status=truth.status,
            engine=truth.engine,
            connection_pool=ConnectionPool(
                active=sum(it.active for it in pools),
                idle=sum(it.idle for it in pools),
                waiting=sum(it.waiting for it in pools),
            ),
        ),
        neo4j=None if graph is None else _graph(plane, graph),
        redis=None if cache is None else await _cache(plane, cache),
    )


@router.get("/metrics", summary="How fast truth is, and how well the cache does")
async def health_metrics(plane: PlaneOf) -> DatabaseMetrics:
    """Of this process; `/metrics` has the counts themselves."""
    pools = _pools(plane)
    asked = max(1, sum(it.asked for it in pools))
    return DatabaseMetrics(
        query_latency=_latency([took for it in plane.opened.truth.pools for took in it.taken_s]),
        connection_pool=PoolUse(
            utilization=sum(it.active for it in pools) / sum(it.connections_max for it in pools),
            wait_time=sum(it.asked_s for it in pools) / asked * 1e3,
        ),
        cache_efficiency=await _efficiency(plane),
    )


def _pools(plane: Plane) -> list[PoolFigures]:
    return [it.pool() for it in plane.opened.truth.pools]


def _latency(taken_s: Sequence[float]) -> QueryLatency:
    if not taken_s:
        return QueryLatency(avg=0, p95=0, p99=0)
    ranked = sorted(taken_s)

    def at(share: float) -> float:
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] * 1e3

    return QueryLatency(avg=sum(ranked) / len(ranked) * 1e3, p95=at(0.95), p99=at(0.99))


def _graph(plane: Plane, found: EngineHealth) -> GraphHealth:
    connections = getattr(plane.opened.stores.graph, "connections", 1)
    return GraphHealth(
        status=found.status,
        engine=found.engine,
        connections=connections,
        query_time=found.latency_ms,
    )


async def _cache(plane: Plane, found: EngineHealth) -> CacheHealth:
    told = await cache_figures(plane)
    reads = told.hits + told.misses if told else 0
    return CacheHealth(
        status=found.status,
        engine=found.engine,
        used_memory=told.used_bytes if told else 0,
        hit_rate=told.hits / reads if told and reads else 0.0,
    )


async def _efficiency(plane: Plane) -> CacheEfficiency:
    requests, found = plane.opened.requests, await cache_figures(plane)
    counts = requests.loads.counts if requests is not None else {}
    hits, misses = counts.get("hit", 0), counts.get("miss", 0)
    reads = max(1, hits + misses)
    rate = found.evicted_keys / max(1.0, found.uptime_s) if found else 0.0
    return CacheEfficiency(hit_rate=hits / reads, miss_rate=misses / reads, eviction_rate=rate)
