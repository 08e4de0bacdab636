"""The contract of graph stores: inherit it, say how to open the engine, and how to look past it.

    class TestMine(GraphStoreContract):
        async def open(self, folder):
            return await mine.connect(f"mine://{folder}")

        async def raw_items(self, store, collection):
            ...  # read with the engine's own client, not with the adapter

        async def raw_edge(self, store, collection, like, key):
            ...  # write with it

What is written is compared with `raw_items`, and what is read with a graph in memory
(`graph_samples.Graph`), so that an adapter cannot agree with itself in error. Needs pytest with
pytest-asyncio.
"""

from __future__ import annotations

from polyplane.testing.graph_reading import GraphReadingContract
from polyplane.testing.graph_writing import RawItem

__all__ = ["GraphStoreContract", "RawItem"]


class GraphStoreContract(GraphReadingContract):
    """What every graph store does. Subclass it as `Test...`."""
