"""Sagas: work in several stores that is done as a whole or undone, whoever dies meanwhile."""

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

__all__ = ["Context", "Retries", "Saga", "SagaRecord", "SagaRefused", "Step", "StepRecord"]
__all__ += ["local", "pause", "remote", "settled", "signal"]
