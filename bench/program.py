"""Programs of the benchmarks' own that run beside the plane, in processes of their own."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from polyplane import Settings

ROOT = Path(__file__).parents[1]


async def ask(module: str, task: dict[str, Any], *, timeout_s: float) -> Any:
    """Run `python -m <module>`, give it `task` as JSON, return what it writes as JSON.

    The task goes by standard input, for it may hold passwords. RuntimeError when it fails.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, _ = await process.communicate(json.dumps(task).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{module} ended with {process.returncode}.")
    return json.loads(out)


def given(settings: Settings) -> dict[str, Any]:
    """What `Settings.load` makes them of again, secrets in clear: for standard input only."""
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in settings
        if value is not None
    }
