"""Secrets, and what is signed with them."""
