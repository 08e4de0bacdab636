"""Skins over the plane: HTTP and the command line."""
