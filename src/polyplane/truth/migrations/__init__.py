"""The history of the plane's own schema, one Alembic revision a file."""
