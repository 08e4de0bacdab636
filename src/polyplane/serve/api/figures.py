"""The plane's figures as metrics."""

from __future__ import annotations

from polyplane.ops.metrics import Sample
from polyplane.plane import Plane


async def samples(plane: Plane) -> list[Sample]:
    """Everything the plane can say about itself at this moment."""
    health = await plane.health()
    return [
        Sample(
            "polyplane_engine_up",
            "gauge",
            "Whether the engine answers.",
            float(engine.status != "failed"),
            (("engine", engine.engine), ("role", engine.role)),
        )
        for engine in health.engines
    ]
