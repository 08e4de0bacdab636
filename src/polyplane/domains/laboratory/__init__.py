"""The laboratory. `application` is loaded when it is asked for: a controller needs none of it."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "application":
        raise AttributeError(name)
    return import_module("polyplane.domains.laboratory.contents").application
