"""PostgreSQL: everything that is atomic."""
