"""The assistant: documents in, the right answer out. `application` is loaded when it is asked for.

A process that reads files imports this package, and nothing else of the plane.
"""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "application":
        raise AttributeError(name)
    return import_module("polyplane.domains.assistant.contents").application
