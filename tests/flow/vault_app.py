"""The models with secrets as an application, for the command line."""

from __future__ import annotations

import polyplane as pp
from tests.flow.vault import MODELS, PROJECTIONS

application = pp.Application("vault", models=MODELS, projections=PROJECTIONS)
