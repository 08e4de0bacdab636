"""What applications declare transformations with, and what they are shown of them."""

from polyplane.model.transformation import (
    Column,
    DryRun,
    Transformation,
    TransformationLetter,
    TransformationRecord,
    column,
)

__all__ = [
    "Column",
    "DryRun",
    "Transformation",
    "TransformationLetter",
    "TransformationRecord",
    "column",
]
