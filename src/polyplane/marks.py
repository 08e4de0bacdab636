"""The marks that applications put on the columns of their models."""

from polyplane.model.marks import owner, personal, secret, tenant
from polyplane.model.secret import Secret

__all__ = ["Secret", "owner", "personal", "secret", "tenant"]
