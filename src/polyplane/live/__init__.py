"""Live updates: what changes in truth, what takes place, and what is at work, told at once."""

from polyplane.live.face import *
from polyplane.live.face import __all__ as __all__
