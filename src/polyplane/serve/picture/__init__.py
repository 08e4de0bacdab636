"""Pictures of a part of a graph, for people. Pure: from what a graph answers to SVG or HTML."""
