"""What follows from the laboratory's rows: the learnings' vectors and the experiments' cache."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

import polyplane as pp
from polyplane.domains.laboratory.models import Experiment, Learning


class LearningTags(TypedDict):
    """What learnings can be filtered by."""

    type: str
    experimentId: str
    confidence: float
    createdAt: datetime


class ExperimentLearnings(pp.Vectors[Learning, LearningTags]):
    """Learnings by meaning."""

    name = "experiment_learnings"
    text_name = "insight"
    indexes = ("type", "confidence", "experimentId")

    def derive(self, learning: Learning, /) -> pp.Vector[LearningTags]:
        return pp.Vector(
            learning.insight,
            tags=LearningTags(
                type=learning.type,
                experimentId=str(learning.experiment_id),
                confidence=learning.confidence,
                createdAt=learning.created_at,
            ),
        )


class ExperimentCache(pp.Cached[Experiment]):
    """Experiments as `experiment:<id>`, for five minutes."""

    key_prefix = "experiment:"
    ttl_s = 300

    def derive(self, experiment: Experiment, /) -> pp.Entry:
        return pp.Entry(
            {
                "id": str(experiment.id),
                "tenant_id": experiment.tenant_id,
                "name": experiment.name,
                "hypothesis": experiment.hypothesis,
                "description": experiment.description,
                "status": experiment.status,
                "risk_level": experiment.risk_level,
                "created_by": experiment.created_by and str(experiment.created_by),
                "created_at": experiment.created_at.isoformat(),
                "updated_at": experiment.updated_at.isoformat(),
            }
        )
