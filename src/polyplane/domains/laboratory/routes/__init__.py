"""The laboratory's HTTP API, one file per kind of thing."""
