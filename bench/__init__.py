"""Measurements against the raw engines: `python -m bench`."""
