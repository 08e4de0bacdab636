"""Agents and what they know. `application` is loaded when it is asked for."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "application":
        raise AttributeError(name)
    return import_module("polyplane.domains.agents.contents").application
