"""What may be done with the assistant, and the least role that may."""

from __future__ import annotations

from typing import Final

from polyplane.web import permission

PERMISSIONS: Final = {
    "assistant.read": "viewer",
    "assistant.write": "editor",
    "assistant.configure": "operator",
}

READ: Final = permission("assistant.read")
WRITE: Final = permission("assistant.write")
"""To put documents in, change and delete them."""
CONFIGURE: Final = permission("assistant.configure")
"""To change the application's configuration."""
