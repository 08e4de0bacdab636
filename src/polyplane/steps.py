"""The named points at which a process may die, for those who make it die there.

The product does nothing at a step. The crash tests put another function in its place before they
import the rest, and end their process at the step they have chosen.
"""

from __future__ import annotations


def step(name: str) -> None:
    """What comes next must be safe to lose, and what came before must be safe to repeat."""
