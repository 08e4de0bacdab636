"""LanceDB keeps the contract of vector stores."""

from __future__ import annotations

from pathlib import Path

import lancedb
import pyarrow as pa

from polyplane.model.collection import Collection
from polyplane.stores.protocol import VectorStore
from polyplane.stores.vector import lance
from polyplane.testing.vector import RawItem, VectorStoreContract

OWN = {"key", "position", "digest", "text", "vector"}


async def raw_table(folder: Path, collection: Collection) -> pa.Table:
    """The whole table, read by LanceDB itself."""
    database = await lancedb.connect_async(str(folder))
    return await (await database.open_table(collection.target)).to_arrow()


class TestLance(VectorStoreContract):
    async def open(self, folder: Path) -> VectorStore:
        self.folder = folder
        return await lance.connect(f"lancedb://{folder}")

    async def raw_items(self, store: VectorStore, collection: Collection) -> list[RawItem]:
        rows = (await raw_table(self.folder, collection)).to_pylist()
        return [
            RawItem(
                row["key"],
                row["position"],
                row["digest"],
                row["text"],
                {name: value for name, value in row.items() if name not in OWN},
                row["vector"],
            )
            for row in rows
        ]
