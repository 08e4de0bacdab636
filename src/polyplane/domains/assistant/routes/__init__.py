"""The HTTP API of the assistant, one file per kind of thing."""
