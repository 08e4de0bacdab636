"""Real engines as child processes: PostgreSQL, NATS, Valkey and SeaweedFS, from wheels."""

from polyplane.embedded.home import Owner, running
from polyplane.embedded.keeper import EngineHealth
from polyplane.embedded.supervisor import Engines

__all__ = ["EngineHealth", "Engines", "Owner", "running"]
