"""Stores of objects; one module per protocol."""
