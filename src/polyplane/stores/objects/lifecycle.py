"""What becomes of objects by itself: the lifecycle rules of a bucket, declared and compared. Pure.

No rule ever touches the latest version of an object: who deletes that is `collect`, which asks
truth first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

OURS: Final = "polyplane-"
"""How the names of our rules begin; others in the bucket are left as they are."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """How long, in days, what nobody can read any more is kept."""

    abort_uploads_days: int = 7
    """Uploads that were begun and never completed. Longer than an upload may be pending."""
    old_versions_days: int = 30
    """Versions over which somebody has put another one, past us: so long they can be restored."""

    def rules(self) -> list[dict[str, Any]]:
        """As S3 takes them."""
        return [
            {
                "ID": f"{OURS}abort-uploads",
                "Status": "Enabled",
                "Filter": {"Prefix": ""},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": self.abort_uploads_days},
            },
            {
                "ID": f"{OURS}old-versions",
                "Status": "Enabled",
                "Filter": {"Prefix": ""},
                "NoncurrentVersionExpiration": {"NoncurrentDays": self.old_versions_days},
            },
        ]


def merged(
    held: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """`wanted`, and of what the bucket has now the rules that are not ours."""
    return [*(it for it in held if not str(it.get("ID", "")).startswith(OURS)), *wanted]


def same(held: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two lists say the same. Servers write an empty filter in several ways."""
    return sorted(map(_plain, held)) == sorted(map(_plain, wanted))


def _plain(rule: Mapping[str, Any]) -> str:
    filtered = rule.get("Filter") or {}
    prefix = filtered.get("Prefix", rule.get("Prefix", "")) if len(filtered) < 2 else filtered
    acts = {
        name: sorted(value.items()) if isinstance(value, Mapping) else value
        for name, value in rule.items()
        if name not in ("Filter", "Prefix", "ID", "Status")
    }
    return repr((rule.get("ID"), rule.get("Status"), prefix, sorted(acts.items())))
