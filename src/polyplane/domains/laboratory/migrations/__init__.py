"""Alembic versions of the schema `laboratory`."""
