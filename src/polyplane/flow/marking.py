"""Whose the items of a row are, and which rows may be seen in them."""

from __future__ import annotations

from typing import Any

from polyplane.errors import DeriveFailed
from polyplane.model.projection import Projection
from polyplane.model.scope import Whose
from polyplane.model.touches import touches_of


class Marking:
    """Whose a row is, and what of its touched rows is of the same tenant."""

    def __init__(self, projection: Projection[Any]) -> None:
        self.whose = Whose.of(projection.model)
        self.names = self.whose.marks
        self._name = projection.name
        self._is_joined = bool(projection.touches)
        self._related = {
            touch.name: tenant
            for touch in touches_of(type(projection))
            if self.whose.tenant and (tenant := Whose.of(touch.model).tenant)
        }

    def read(self, key: str, row: Any) -> dict[str, str | None]:
        """What the items of `row` carry. DeriveFailed for a row that cannot be read."""
        try:
            return self.whose.read(row.row if self._is_joined else row)
        except Exception as error:
            raise DeriveFailed(self._name, key, error) from error

    def of_one_tenant(self, key: str, row: Any) -> Any:
        """`row` without touched rows of other tenants, which must not get into its items."""
        if not self._related:
            return row
        try:
            mine = getattr(row.row, str(self.whose.tenant))
            related = dict(row.related)
            for name, tenant in self._related.items():
                related[name] = tuple(it for it in related[name] if getattr(it, tenant) == mine)
        except Exception as error:
            raise DeriveFailed(self._name, key, error) from error
        return row._replace(related=related)
