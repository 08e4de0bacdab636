"""What applications declare graphs with, and what they are shown of them."""

from polyplane.model.graph import (
    Edge,
    EdgeStep,
    GraphEdge,
    GraphNode,
    Neighbour,
    Node,
    NodeStep,
    Path,
    Pattern,
    Reached,
    Subgraph,
    Table,
)
from polyplane.model.projection import Edges, Nodes

__all__ = [
    "Edge",
    "EdgeStep",
    "Edges",
    "GraphEdge",
    "GraphNode",
    "Neighbour",
    "Node",
    "NodeStep",
    "Nodes",
    "Path",
    "Pattern",
    "Reached",
    "Subgraph",
    "Table",
]
