"""Errors of the driver of Ladybug, made ours. It has but one kind, and words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from polyplane.errors import Misconfigured, NotFound, PolyplaneError, Refused, StoreDown


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of the driver, made ours."""
    try:
        yield
    except PolyplaneError:
        raise
    except TimeoutError as error:
        raise StoreDown(f"Ladybug did not {what} in time.") from error
    except (RuntimeError, OSError, ValueError) as error:
        _raise(str(error).strip()[:500], what, error)


def _raise(text: str, what: str, error: Exception) -> NoReturn:
    """What an error of the engine means; it has but one kind, and words."""
    if "Could not set lock" in text:
        raise Misconfigured(
            "Another process has the Ladybug database open.",
            fix="Stop it: one process may open it, which is that of `polyplane up`.",
        ) from error
    if text.startswith("Binder exception") and "does not exist" in text and "Table" in text:
        raise NotFound("There is no such collection.", fix="Prepare it first.") from error
    raise StoreDown(f"Ladybug could not {what}: {text}") from error


@contextmanager
def callers(what: str) -> Iterator[None]:
    """What is wrong with a query that a caller has written is the caller's."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        text = str(error).strip()[:500]
        if text.startswith("Interrupted"):
            raise Refused(
                f"The {what} took too long.", field="text", fix="Narrow it, or give it longer."
            ) from error
        raise Refused(f"Ladybug refuses the {what}: {text}", field="text") from error
