"""Stores: one protocol, one module per engine."""
