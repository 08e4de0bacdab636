"""Identity, all of it in one hand: what a plane holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Final

from polyplane.access.accounts import Accounts
from polyplane.access.attempts import Attempts
from polyplane.access.door import Door
from polyplane.access.external import External
from polyplane.access.hashing import Hasher
from polyplane.access.keys import Keys
from polyplane.access.members import Members
from polyplane.access.people import People
from polyplane.access.standing import Standings
from polyplane.errors import TruthDown
from polyplane.model.caller import Caller
from polyplane.providers import OidcProvider
from polyplane.security.roles import Permissions
from polyplane.stores.visitors import WordStore
from polyplane.truth.database import Database
from polyplane.truth.session import Write, write
from polyplane.truth.statements import statement

_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Rules:
    """What a plane allows. Durations are in seconds."""

    session_idle_s: float
    session_max_s: float
    sign_up: bool
    providers: Mapping[str, OidcProvider] = field(default_factory=dict)


class _Secret:
    """The secret that all processes of one truth share; made by the first that needs it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: bytes | None = None

    async def __call__(self) -> bytes:
        if self._known is None:
            for _ in range(_TRIES):  # one made in the same moment is seen by the next look
                asked = {"secret": token_bytes(32)}
                row = await self._database.row(statement("identity", "secret"), asked)
                if row is not None:
                    self._known = bytes(row[0])
                    break
            else:
                raise TruthDown("PostgreSQL has not told the secret of identity.")
        return self._known


class Identity:
    """Who comes in: `door` lets them in; the rest is what is done with users, keys and tenants."""

    def __init__(
        self,
        database: Database,
        words: WordStore | None,
        epoch: Callable[[], int],
        applications: Iterable[tuple[str, Mapping[str, str]]],
        operator_secret: Callable[[], str],
        rules: Rules,
    ) -> None:
        """Raises Misconfigured for a permission or provider that is declared wrongly. Connects to
        nothing.
        """
        secret = _Secret(database)

        def begin(caller: Caller) -> AbstractAsyncContextManager[Write]:
            return write(database, caller=caller, epoch=epoch())

        self.permissions = Permissions.of(applications)
        self.standings = Standings(database, words, secret, idle_s=rules.session_idle_s)
        self.door = Door(self.standings, self.permissions, operator_secret)
        self._hasher = Hasher()
        attempts = Attempts(database, secret)
        self.accounts = Accounts(
            database,
            begin,
            self.standings,
            self._hasher,
            attempts,
            secret,
            idle_s=rules.session_idle_s,
            max_s=rules.session_max_s,
            is_open=rules.sign_up,
        )
        self.external = External(
            database,
            begin,
            self.standings,
            self.accounts,
            attempts,
            secret,
            rules.providers,
            idle_s=rules.session_idle_s,
        )
        self.people = People(database, begin, self.standings, self._hasher)
        self.members = Members(database, begin, self.standings, self.permissions)
        self.keys = Keys(database, begin, self.standings, self.permissions)

    async def close(self) -> None:
        """Let its threads and connections end."""
        self._hasher.close()
        await self.external.close()
