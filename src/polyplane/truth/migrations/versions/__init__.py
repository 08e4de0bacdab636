"""The revisions, run by ops/migrate.py; each in a transaction of its own."""
