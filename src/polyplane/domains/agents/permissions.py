"""What may be done with agents, and the least role that may."""

from __future__ import annotations

from typing import Final

from polyplane.web import permission

PERMISSIONS: Final = {
    "agents.read": "viewer",
    "agents.write": "editor",
    "agents.operate": "editor",
}

READ: Final = permission("agents.read")
WRITE: Final = permission("agents.write")
OPERATE: Final = permission("agents.operate")
"""To have operations done, and cancelled."""
