"""Where identity says what was done, in the transaction that does it."""

from __future__ import annotations

from typing import Any

from polyplane.truth.session import Write


def audited(tx: Write, action: str, resource: str, **detail: Any) -> None:
    """Say that `tx` does `action` (`user.signed_in`) to `resource` (`<type>:<id>`)."""
    kind, _, name = resource.partition(":")
    tx.audit(action, kind, name or None, detail or None)
