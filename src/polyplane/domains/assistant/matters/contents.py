"""The table of contents of the assistant's other truth."""

from __future__ import annotations

from typing import Final

from polyplane.domains.assistant.matters import (
    models_made,
    models_money,
    models_people,
    models_work,
    outputs,
)
from polyplane.domains.assistant.matters.routes import calendar, made, money, oauth, people, work

MODELS: Final = (
    *models_people.MODELS,
    *models_work.MODELS,
    *models_money.MODELS,
    *models_made.MODELS,
)
PROJECTIONS: Final = outputs.PROJECTIONS
ROUTES: Final = (people, oauth, work, calendar, money, made)
