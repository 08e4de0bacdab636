"""The HTTP API of agents, one file per kind of thing."""
