"""What a search gives back, and what is said of a text that was found."""

from polyplane.model.found import Found, Match, Mode, Rerank
from polyplane.model.terms import asked, excerpt, highlights

__all__ = ["Found", "Match", "Mode", "Rerank", "asked", "excerpt", "highlights"]
