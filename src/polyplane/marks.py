"""The marks that applications put on the columns of their models."""

from polyplane.model.marks import owner, personal, tenant

__all__ = ["owner", "personal", "tenant"]
