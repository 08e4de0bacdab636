"""Points that belong to tenants: the plane says to which, never whoever sends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from polyplane.errors import Refused
from polyplane.model.stream import Stream


def of_tenant(stream: type[Stream], columns: Any, tenant: str) -> Any:
    """`columns` (an Arrow table, or lists by name), all of `tenant`, where points have tenants.

    Raises Refused when they say that they are another's.
    """
    name = stream.tenant_column
    if not name:
        return columns
    is_table = isinstance(columns, pa.Table)
    if name in (columns.column_names if is_table else columns):
        said = columns[name].to_pylist() if is_table else columns[name]
        if any(it != tenant for it in said):
            raise Refused(f"{name} is given by the plane: {tenant}.", field=name)
        return columns
    if is_table:
        return columns.append_column(name, pa.array([tenant] * columns.num_rows, pa.string()))
    rows = len(columns["time"]) if isinstance(columns.get("time"), Sequence) else 0
    return {**columns, name: [tenant] * rows}
