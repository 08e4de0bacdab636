"""Whose turn it is with a database in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Many share, or one is alone. Who wants to be alone is let in before others that come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._alone = False
        self._wanting = 0

    @contextmanager
    def shared(self, timeout_s: float) -> Iterator[None]:
        """Beside others that share. TimeoutError when it does not come to that."""
        with self._changed:
            free = self._changed.wait_for(lambda: not self._alone and not self._wanting, timeout_s)
            if not free:
                raise TimeoutError
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, timeout_s: float) -> Iterator[None]:
        """Beside nobody. TimeoutError when it does not come to that."""
        with self._changed:
            self._wanting += 1
            try:
                if not self._changed.wait_for(self._is_empty, timeout_s):
                    raise TimeoutError
                self._alone = True
            finally:
                self._wanting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()

    def _is_empty(self) -> bool:
        return not self._alone and not self._sharing
