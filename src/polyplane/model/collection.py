"""The named target of a projection in a store, one of its generations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self

_TYPES: Final = {kind.__name__: kind for kind in (str, int, float, bool, datetime)}


@dataclass(frozen=True, slots=True)
class Collection:
    """Where a projection's items live, and what a store must know to prepare it.

    `tag_types` maps each declared tag to str, int, float, bool or datetime (empty: untyped, any
    tag may come); `indexes` are the tags to index; `dimensions` is the length of the vectors;
    `text_name` the stored name of the text; `full_text` its language, when its words are looked
    for, too. `key_prefix` and `ttl_s` are for caches. `label` is that of a graph's nodes, or the
    type of its edges; `ends` are the labels, generation included, of what edges are from and to.
    `marks` are the reserved names under which every item says whose it is (see `model.scope`).
    `table` is what the store calls it, if not by its name.
    """

    name: str
    generation: int
    kind: str
    dimensions: int = 0
    tag_types: Mapping[str, type] = field(default_factory=dict)
    indexes: tuple[str, ...] = ()
    text_name: str = "text"
    full_text: str = ""
    key_prefix: str = ""
    ttl_s: int = 300
    marks: tuple[str, ...] = ()
    label: str = ""
    ends: tuple[str, ...] = ()
    table: str = ""

    @property
    def labelled(self) -> str:
        """The label or type in the graph: the plain one at first, then with its generation."""
        return self.label if self.generation == 1 else f"{self.label}_g{self.generation}"

    @property
    def target(self) -> str:
        """The physical name: the plain name at first, then with its generation behind it."""
        name = self.table or self.name
        return name if self.generation == 1 else f"{name}_g{self.generation}"

    def shape(self) -> dict[str, Any]:
        """All but name and generation, as JSON: enough to read it without its declaration."""
        return {
            "kind": self.kind,
            "dimensions": self.dimensions,
            "tag_types": {name: kind.__name__ for name, kind in self.tag_types.items()},
            "indexes": list(self.indexes),
            "text_name": self.text_name,
            **({"full_text": self.full_text} if self.full_text else {}),
            "key_prefix": self.key_prefix,
            "ttl_s": self.ttl_s,
            **({"marks": list(self.marks)} if self.marks else {}),
            **({"label": self.label, "ends": list(self.ends)} if self.label else {}),
            **({"table": self.table} if self.table else {}),
        }

    @classmethod
    def of_shape(cls, name: str, generation: int, shape: Mapping[str, Any]) -> Self:
        """The collection of which `shape` was taken."""
        tag_types = {tag: _TYPES[kind] for tag, kind in shape["tag_types"].items()}
        given = {**shape, "tag_types": tag_types, "indexes": tuple(shape["indexes"])}
        given["marks"], given["ends"] = tuple(shape.get("marks", ())), tuple(shape.get("ends", ()))
        return cls(name, generation, **given)
