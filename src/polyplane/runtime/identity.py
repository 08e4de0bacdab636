"""Identity on what a plane has opened."""

from __future__ import annotations

from collections.abc import Callable

from polyplane.access.identity import Identity, Rules
from polyplane.access.limiting import Limiter
from polyplane.runtime.declared import Declared
from polyplane.runtime.targets import Stores
from polyplane.security.secret_file import OPS_TOKEN, secret_in
from polyplane.settings import Settings
from polyplane.truth.database import Database


def identity_of(
    declared: Declared,
    settings: Settings,
    database: Database,
    stores: Stores,
    epoch: Callable[[], int],
) -> Identity:
    """Who comes in, and what they may, as it is declared. Raises Misconfigured."""
    return Identity(
        database,
        stores.cache.words if stores.cache is not None else None,
        epoch,
        [(it.name, it.permissions) for it in declared.applications],
        lambda: secret_in(settings.home / OPS_TOKEN),
        Rules(settings.session_idle_s, settings.session_max_s, settings.sign_up, settings.oidc),
        Limiter(
            stores.cache.limits if stores.cache is not None else None,
            processes=settings.limit_processes,
        ),
    )
