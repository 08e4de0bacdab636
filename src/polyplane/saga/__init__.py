"""Sagas: work in several stores that is done as a whole or undone, whoever dies meanwhile."""

from polyplane.saga.face import *
from polyplane.saga.face import __all__ as __all__
