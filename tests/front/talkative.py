"""`python -m tests.front.talkative HOME`: a process that says every secret it knows, in every way.

With canaries in every secret setting; nothing of them may be in what it writes.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
import typer

from polyplane.errors import Unavailable
from polyplane.security.redaction import Redactor
from polyplane.serve.cli import logs
from polyplane.serve.cli.report import Report
from polyplane.settings import Settings

TOKENS = (
    "ps_" + "s" * 20 + "ecanary" + "x" * 16,
    "pp_abcdefghijkl_" + "k" * 20 + "ecanary" + "x" * 16,
)


def every(settings: Settings) -> list[str]:
    """What is secret: settings in clear, files of the home, tokens of people and programs."""
    values = [getattr(settings, name) for name in Settings.model_fields]
    clear = [it.get_secret_value() for it in values if hasattr(it, "get_secret_value")]
    return [*clear, *logs.known_secrets(settings), *TOKENS]


def talk(settings: Settings, redactor: Redactor) -> None:
    """Our own logs, those of libraries, warnings, errors of the command line."""
    ours, theirs = structlog.get_logger("polyplane.talk"), logging.getLogger("some.driver")
    for secret in every(settings):
        ours.warning(f"cannot reach {secret}", url=secret, nested={"deep": [{"at": secret}]})
        ours.warning(
            "asked", headers={"Authorization": f"Bearer {secret}", "Cookie": f"a={secret}"}
        )
        ours.error("failed", error=ValueError(secret), raw=secret.encode())
        theirs.warning("connecting to %s", secret)
        theirs.error("headers: {'Authorization': 'Bearer %s'}", secret)
        theirs.warning("args", extra={"password": secret})
        warnings.warn(f"deprecated: {secret}", stacklevel=1)
        try:
            raise RuntimeError(f"login with password={secret} failed")
        except RuntimeError:
            theirs.exception("driver")
            ours.exception("ours")
        with suppress(typer.Exit), Report("talk", False) as report:
            report.redactor = redactor
            raise Unavailable(f"{secret} does not answer.", fix=f"Try {secret}")
    ours.warning("fields", **dict.fromkeys(("password", "api_key", "token", "cookie"), "short"))


async def unheard(secret: str) -> None:
    """A task that nobody waits for."""
    asyncio.get_running_loop().call_exception_handler(
        {"message": f"lost {secret}", "exception": RuntimeError(secret)}
    )


def main() -> None:
    """Talk, then die of an error that nobody caught."""
    settings = Settings.load(home=Path(sys.argv[1]))
    redactor = logs.configure(logging.INFO, settings)
    print(settings, repr(settings), settings.model_dump(), settings.model_dump_json())
    talk(settings, redactor)
    secrets: list[Any] = every(settings)
    asyncio.run(unheard(secrets[0]))
    raise RuntimeError(" ".join(secrets))


if __name__ == "__main__":
    main()
