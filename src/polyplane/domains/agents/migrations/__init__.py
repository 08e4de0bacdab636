"""Alembic versions of the schema `agents`."""
