"""Experiments and their work orders: what begins in truth and goes out to controllers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import polyplane as pp
from polyplane.domains.laboratory import wire
from polyplane.domains.laboratory.models import ActivityCorrelation, Experiment
from polyplane.domains.laboratory.rows import locked
from polyplane.domains.laboratory.wire import Activity, WorkOrder

BY_HAND: Final = {"draft": "archived", "completed": "archived", "failed": "archived"}
"""Where a person may move an experiment; all other moves follow from what happens."""


class Order(NamedTuple):
    """What one controller is asked to do; activities without attempts yet."""

    controller_id: str
    activities: Sequence[Activity]


async def start_experiment(
    tx: pp.Write, experiment_id: UUID, orders: Sequence[Order]
) -> list[ActivityCorrelation]:
    """Schedule the activities and issue one work order per `Order`, in this transaction.

    Raises Conflict unless the experiment is a draft, and for an activity id that exists.
    """
    experiment = await locked(tx, Experiment, experiment_id)
    if experiment.status != "draft":
        raise pp.Conflict(f"The experiment is {experiment.status}, not draft.", field="status")
    experiment.status = "running"
    now = datetime.now(UTC)
    rows = []
    for order in orders:
        work_order_id = str(uuid4())
        scheduled = [
            ActivityCorrelation(
                tenant_id=tx.tenant,
                experiment_id=experiment_id,
                work_order_id=work_order_id,
                activity_id=activity.activity_id,
                controller_id=order.controller_id,
                activity_name=activity.name,
                parameters=activity.parameters,
                scheduled_at=now,
            )
            for activity in order.activities
        ]
        tx.add_all(scheduled)
        issue(tx, [(row, 1) for row in scheduled])
        rows += scheduled
    await tx.flush()
    return rows


def issue(tx: pp.Write, activities: Sequence[tuple[ActivityCorrelation, int]]) -> None:
    """Order these activities of one work order, each for its given attempt, when `tx` commits."""
    first = activities[0][0]
    order = WorkOrder(
        work_order_id=first.work_order_id,
        experiment_id=first.experiment_id,
        controller_id=first.controller_id,
        activities=[
            Activity(
                activity_id=row.activity_id,
                name=row.activity_name,
                parameters=row.parameters,
                attempt=attempt,
            )
            for row, attempt in activities
        ],
    )
    tx.emit(wire.ISSUED, order.model_dump(mode="json"), subject=first.controller_id)


def check_move(experiment: Experiment, status: str) -> None:
    """Conflict unless a person may move `experiment` to `status`."""
    if status not in (experiment.status, BY_HAND.get(experiment.status)):
        raise pp.Conflict(
            f"A {experiment.status} experiment cannot be made {status} by hand.", field="status"
        )
