"""Alembic versions of the schema `assistant`."""
