"""Another process that comes for a token: `ready`, then for each line of input what it got.

After the line `die` it is killed when the provider has answered and nothing is written yet.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from uuid import UUID

import orjson

import polyplane as pp
from polyplane.domains.assistant.matters import tokens
from polyplane.domains.assistant.matters.models_people import OAuthToken


async def die(*_: object, **__: object) -> None:
    """What no process comes back from."""
    os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    """Come, ask, tell."""
    told = orjson.loads(sys.argv[1])
    settings = pp.Settings.load(environ={}, **{**told["settings"], "home": Path(told["home"])})
    caller = pp.Caller("service:refresher", told["tenant"])
    async with pp.Plane(models=[OAuthToken], settings=settings, flows=False) as plane:
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            if line.strip() == "die":
                tokens._write = die
                continue
            try:
                print(await tokens.access_token(plane, caller, UUID(line.strip())), flush=True)
            except pp.PolyplaneError as error:
                print(type(error).__name__, error.message, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
