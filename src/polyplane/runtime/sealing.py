"""Sealing in an open plane: with which key, to which places, and when it begins and stops."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

from polyplane.flow.crew import Crew
from polyplane.flow.seal_places import FILE_NAME, SealFile, SealObjects, seals_among, seals_in
from polyplane.flow.sealing import Sealer, SealPlace
from polyplane.reconcile.auditing import Lines, prove_lines, prove_trail
from polyplane.reconcile.handed import Handed
from polyplane.reconcile.trail import Audited
from polyplane.runtime.opening import Open
from polyplane.runtime.uploads import ready_store
from polyplane.security.sealing import SealingKey
from polyplane.security.secret_file import secret_in
from polyplane.settings import Settings
from polyplane.truth.audit import Trail
from polyplane.truth.database import Database

KEY_NAME: Final = "audit.key"


def start_sealing(opened: Open, settings: Settings, stack: AsyncExitStack) -> None:
    """Seal audit in this process until the stack unwinds. A worker leaves it to `up`."""
    if opened.is_worker:
        return
    places: list[SealPlace] = [SealFile(settings.home / FILE_NAME)]
    if opened.stores.objects is not None:
        places.append(SealObjects(partial(ready_store, opened)))
    key = sealing_key(settings)
    sealer = Sealer(
        Trail(opened.truth.audit),
        opened.journal,
        key,
        trusted_keys(settings),
        places,
        epoch=lambda: opened.epoch,
    )
    crew = Crew()
    crew.add("audit", sealer.run)
    opened.sealer = sealer
    stack.push_async_callback(sealer.stop)
    stack.push_async_callback(crew.stop)


def sealing_key(settings: Settings) -> SealingKey:
    """The key that signs: the setting's, or the home's, which is made when there is none."""
    return SealingKey(settings.url("audit_key") or secret_in(settings.home / KEY_NAME))


def trusted_keys(settings: Settings) -> set[str]:
    """The public keys whose seals count. The home's is not made for that."""
    keys = {key for key in settings.audit_public_keys.split(",") if key}
    if settings.audit_key is not None or (settings.home / KEY_NAME).exists():
        keys.add(sealing_key(settings).public)
    return keys


def places_outside(opened: Open, settings: Settings) -> dict[str, Callable[[], Lines]]:
    """What keeps seals outside the database, and how its lines are read."""
    path = settings.home / FILE_NAME
    places: dict[str, Callable[[], Lines]] = {str(path): partial(seals_in, path)}
    if opened.stores.objects is not None:
        places["objects"] = partial(seals_among, partial(ready_store, opened))
    return places


async def check_file(path: Path, keys: Collection[str]) -> Audited:
    """Whether a file of seals is one chain of these keys', or of rows, whether all are proven."""
    handed, is_handed = Handed(keys), False
    async for lines in seals_in(path):
        is_handed = is_handed or any(b'"row":' in line[:20] for line in lines)
        handed.add(lines)
    return handed.done if is_handed else await prove_lines(seals_in(path), keys)


async def verify_at(
    url: str, settings: Settings, seals: Path | None, tell: Callable[[int, int], None]
) -> Audited:
    """Verify the audit of a database, of which only the URL is known; nothing is written."""
    path = seals or settings.home / FILE_NAME
    database = Database(url)
    try:
        trail = Trail(database)
        about = await trail.about()
        outside = {str(path): partial(seals_in, path)}
        keys = trusted_keys(settings)
        return await prove_trail(trail, keys, outside, tell=lambda rows: tell(rows, about))
    finally:
        await database.close()
