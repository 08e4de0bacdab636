"""The named, versioned target of a projection in a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Collection:
    """Where a projection's items live, and what a store must know to prepare it.

    `tag_types` maps each declared tag to str, int, float, bool or datetime (empty: untyped, any
    tag may come); `indexes` are the tags to index; `dimensions` is the length of the vectors;
    `text_name` the stored name of the text. `key_prefix` and `ttl_s` are for caches.
    """

    name: str
    version: int
    kind: str
    dimensions: int = 0
    tag_types: Mapping[str, type] = field(default_factory=dict)
    indexes: tuple[str, ...] = ()
    text_name: str = "text"
    key_prefix: str = ""
    ttl_s: int = 300

    @property
    def target(self) -> str:
        """The physical name: the plain name for version 1, else with its version behind it."""
        return self.name if self.version == 1 else f"{self.name}_v{self.version}"
