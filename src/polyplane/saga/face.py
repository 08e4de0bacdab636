"""What applications write sagas with, and what they are shown of them."""

from polyplane.errors import SagaRefused
from polyplane.model.saga import (
    Context,
    Retries,
    Saga,
    SagaRecord,
    Step,
    StepRecord,
    local,
    pause,
    remote,
    settled,
    signal,
)

__all__ = [
    "Context",
    "Retries",
    "Saga",
    "SagaRecord",
    "SagaRefused",
    "Step",
    "StepRecord",
    "local",
    "pause",
    "remote",
    "settled",
    "signal",
]
