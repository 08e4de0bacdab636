"""A plane of deeds and its API in a process that is killed: `python -m tests.crash.live_server`.

Its settings come from the environment, and the port as its argument.
"""

from __future__ import annotations

import asyncio
import sys

import polyplane as pp
from polyplane.serve.api.app import create_app
from polyplane.serve.api.server import Server, bind
from tests.flow.live_things import application


async def serve(port: int) -> None:
    """Move data and serve, until killed."""
    plane = pp.Plane(applications=[application])
    with bind("127.0.0.1", port, or_any=False) as at:
        async with plane:
            app = create_app(plane, plane.declared.applications)
            await Server(app, hub=plane.opened.live.hub).serve(sockets=[at])


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
