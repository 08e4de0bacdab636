"""Opening what encrypts: key-encryption keys from where they are kept, data keys from truth."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from polyplane.errors import Misconfigured
from polyplane.flow.deriving import Keyed
from polyplane.model.wrapping import KeyWrapping
from polyplane.runtime.declared import Declared
from polyplane.security import key_file, ledger
from polyplane.security.keks import keys_in
from polyplane.settings import Settings
from polyplane.truth.database import Database
from polyplane.truth.keyring import Keyring
from polyplane.truth.sealing import Sealing
from polyplane.truth.secret_keys import counts, destroy_again, is_any

_log = structlog.get_logger(__name__)

CONNECTIONS: Final = 2
"""Of a keyring, beside those of the plane: who waits for a key holds one of the plane's."""


async def open_ring(declared: Declared, settings: Settings, database: Database) -> Keyring | None:
    """The data keys of a plane whose models have secrets, else None; its sessions encrypt then.

    Raises Misconfigured for placeholder keys, and when the keys are lost that data keys in truth
    are wrapped with.
    """
    given = settings.url("encryption_keys")
    if given is not None:
        keys_in(given)  # a placeholder is refused before anybody needs it
    if not declared.secrets:
        return None
    wrapping = declared.keys or await _wrapping(settings, given, database)
    ring = Keyring(
        Database(
            database.url.render_as_string(hide_password=False),
            max_connections=CONNECTIONS,
            pool_timeout_s=settings.db_pool_timeout_s,
            call_timeout_s=settings.db_call_timeout_s,
        ),
        wrapping,
    )
    if again := await destroy_again(database, ledger.noted(settings.home / ledger.NAME)):
        _log.warning("keys.destroyed_again", keys=len(again))
    used = {it.kek for it in await counts(database) if it.kek is not None}
    if missing := sorted(used - set(getattr(wrapping, "ids", used))):
        _log.warning("keys.missing", keys=missing)
    database.session_of = Sealing(ring, declared.secrets).session_of
    return ring


async def keyed(ring: Keyring) -> Keyed:
    """What digests over secrets are keyed with."""
    found = await ring.for_digests()
    return Keyed(found.id, found.material)


def file_of(settings: Settings) -> Path:
    """The file of key-encryption keys, whether it is used or not."""
    return settings.encryption_keys_file or settings.home / key_file.NAME


async def _wrapping(settings: Settings, given: str | None, database: Database) -> KeyWrapping:
    if given is not None:
        return keys_in(given)
    path = file_of(settings)
    if not await asyncio.to_thread(path.exists):
        if await is_any(database):
            raise Misconfigured(
                f"Truth has data keys, and the keys that they are wrapped with are lost: {path}.",
                fix="Put that file back, or set POLYPLANE_ENCRYPTION_KEYS.",
            )
        await asyncio.to_thread(key_file.make, path)
        _log.info("keys.made", file=str(path))
    return key_file.KeyFile(path)
