"""The assistant: documents in, the right answer out. `application` is loaded when asked for."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "application":
        raise AttributeError(name)
    return import_module("polyplane.domains.assistant.contents").application
