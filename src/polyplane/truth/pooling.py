"""The pool of connections to PostgreSQL, counted: how many are out, and who waits for one."""

from __future__ import annotations

from time import monotonic
from typing import NamedTuple

from sqlalchemy import PoolProxiedConnection
from sqlalchemy.pool import AsyncAdaptedQueuePool


class PoolFigures(NamedTuple):
    """Connections of one pool, `connections_max` at most: at work (`active`), `idle`, and how many
    are `waiting` for one. In all it was asked `asked` times, which took `asked_s`.
    """

    active: int
    idle: int
    waiting: int
    connections_max: int
    asked: int
    asked_s: float


class CountedPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's own, that knows who waits."""

    _sqla_logger_namespace = "sqlalchemy.pool"  # as quiet as theirs
    waiting = 0
    asked = 0
    asked_s = 0.0

    def connect(self) -> PoolProxiedConnection:
        """One of them, or a new one. Raises what the pool and the driver raise."""
        self.waiting += 1
        began_s = monotonic()
        try:
            return super().connect()
        finally:
            self.waiting -= 1
            self.asked += 1
            self.asked_s += monotonic() - began_s

    def figures(self, kept: int, connections_max: int) -> PoolFigures:
        """Of this moment; `kept` of those that are out are kept for others, and idle."""
        out, inside = self.checkedout(), self.checkedin()
        return PoolFigures(
            max(0, out - kept),
            inside + kept,
            self.waiting,
            connections_max,
            self.asked,
            self.asked_s,
        )
