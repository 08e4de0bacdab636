"""What may be done in the laboratory, and the least role that may."""

from __future__ import annotations

from typing import Final

from polyplane.web import permission

PERMISSIONS: Final = {"laboratory.read": "viewer", "laboratory.write": "editor"}

READ: Final = permission("laboratory.read")
WRITE: Final = permission("laboratory.write")
