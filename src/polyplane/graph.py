"""What applications declare graphs with, beside `pp.Nodes` and `pp.Edges`, and read them as."""

from polyplane.model.graph import (
    Direction,
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
from polyplane.runtime.graph import Graph

__all__ = [
    "Direction",
    "Edge",
    "EdgeStep",
    "Graph",
    "GraphEdge",
    "GraphNode",
    "Neighbour",
    "Node",
    "NodeStep",
    "Path",
    "Pattern",
    "Reached",
    "Subgraph",
    "Table",
]
