"""What a credential stands for, as truth says: at most half a second ago."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson
import structlog

from polyplane.errors import StoreDown
from polyplane.security.tokens import hash_of, is_session_token, key_id_of
from polyplane.stores.visitors import WordStore
from polyplane.truth.database import Database
from polyplane.truth.statements import statement

_log = structlog.get_logger("polyplane.identity")

GOOD_FOR_MS: Final = 500
"""How old, at most, what truth said may be: a revocation holds then whatever the cache does."""
TAKEN_BACK_MS: Final = 2 * GOOD_FOR_MS
"""For how long no word is taken from who read the truth before: longer than it would be good."""
WITHOUT_CACHE_S: Final = 1.0
"""For how long a cache that does not answer is not asked again."""
_SIGNATURE_BYTES: Final = 32

SESSION: Final = "session"
KEY: Final = "apikey"


class Standing(NamedTuple):
    """What a session or a key stands for."""

    kind: str
    id: str
    user: UUID | None
    is_administrator: bool
    roles: tuple[tuple[str, str], ...]
    """(tenant, role), the first of which counts when none is named."""
    scopes: tuple[str, ...] | None


class Standings:
    """Asks truth what credentials stand for, with a cache in front that may vanish or lie.

    A word in the cache is signed with a secret of truth, bound to its credential, and counts for
    GOOD_FOR_MS from before truth was asked, by the cache's own clock. What changes is taken back in
    the same breath; should that fail, the word runs out.
    """

    def __init__(
        self,
        database: Database,
        words: WordStore | None,
        secret: Callable[[], Awaitable[bytes]],
        *,
        idle_s: float,
    ) -> None:
        self._database = database
        self._words = words
        self._secret = secret
        self._idle_s = idle_s
        self._cache_again_at = 0.0

    async def of(self, credential: str) -> Standing | None:
        """What `credential` stands for; None when it is no credential (any more).

        Raises TruthDown when truth has to be asked and does not answer.
        """
        key_id = key_id_of(credential)
        if key_id is None and not is_session_token(credential):
            return None
        kind = SESSION if key_id is None else KEY
        hashed = hash_of(credential)
        name = _name(kind, hashed)
        heard = await self._hear(name)
        secret = await self._secret()
        if heard is not None and heard[1] is not None:
            standing = _opened(secret, name, heard[1], heard[0])
            if standing is not None:
                return standing
        found = await self._asked(kind, key_id, hashed)
        if found is not None and heard is not None:
            await self._say(name, _sealed(secret, name, found, heard[0]), heard[0])
        return found

    async def forget(self, credentials: Sequence[tuple[str, bytes]]) -> None:
        """Take back what was said of (kind, hash) ones. Never fails: words run out."""
        if self._words is None or not credentials:
            return
        names = [_name(kind, bytes(hashed)) for kind, hashed in credentials]
        try:
            await self._words.take_back(names, for_ms=TAKEN_BACK_MS)
        except StoreDown as error:
            _log.warning("identity.not_taken_back", error=error.message, credentials=len(names))

    async def _asked(self, kind: str, key_id: str | None, hashed: bytes) -> Standing | None:
        if kind == SESSION:
            asked = {"hash": hashed, "idle_s": self._idle_s}
            row = await self._database.row(statement("identity", "session"), asked)
            if row is None:
                return None
            if row[3]:
                await self._database.rows(statement("identity", "session_used"), {"hash": hashed})
            roles = tuple((tenant, role) for tenant, role in row[4])
            return Standing(SESSION, str(row[0]), row[1], row[2], roles, None)
        row = await self._database.row(statement("identity", "key"), {"id": key_id})
        if row is None or not hmac.compare_digest(bytes(row[0]), hashed):
            return None
        if row[5]:
            await self._database.rows(statement("identity", "key_used"), {"id": key_id})
        scopes = None if row[4] is None else tuple(row[4])
        # A key never has the powers of an administrator of the plane.
        return Standing(KEY, str(key_id), row[1], False, ((row[2], row[3]),), scopes)

    async def _hear(self, name: str) -> tuple[int, bytes | None] | None:
        if self._words is None or monotonic() < self._cache_again_at:
            return None
        try:
            return await self._words.hear(name)
        except StoreDown as error:
            self._without_cache(error)
            return None

    async def _say(self, name: str, word: bytes, at_us: int) -> None:
        assert self._words is not None
        try:
            await self._words.say(name, word, until_us=at_us + GOOD_FOR_MS * 1_000)
        except StoreDown as error:
            self._without_cache(error)

    def _without_cache(self, error: StoreDown) -> None:
        """Truth answers alone for a while: no request waits for a cache that hangs."""
        self._cache_again_at = monotonic() + WITHOUT_CACHE_S
        _log.warning("identity.without_cache", error=error.message)


def _name(kind: str, hashed: bytes) -> str:
    return f"{kind}:{hashed.hex()}"


def _sealed(secret: bytes, name: str, standing: Standing, at_us: int) -> bytes:
    """The word: signed, since who can write to the cache must not be able to make one up."""
    body = orjson.dumps([at_us, *standing])
    return _signature(secret, name, body) + body


def _opened(secret: bytes, name: str, word: bytes, now_us: int) -> Standing | None:
    """What a word says; None when it is not ours, of another, or not of the last moment."""
    signature, body = word[:_SIGNATURE_BYTES], word[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(secret, name, body)):
        return None
    at_us, kind, identity, user, is_administrator, roles, scopes = orjson.loads(body)
    if not 0 <= now_us - at_us < GOOD_FOR_MS * 1_000:
        return None
    return Standing(
        kind,
        identity,
        None if user is None else UUID(user),
        is_administrator,
        tuple((tenant, role) for tenant, role in roles),
        None if scopes is None else tuple(scopes),
    )


def _signature(secret: bytes, name: str, body: bytes) -> bytes:
    return hmac.digest(secret, b"word\0" + name.encode() + b"\0" + body, "sha256")


def credentials(kind: str, rows: Sequence[Sequence[Any]]) -> list[tuple[str, bytes]]:
    """(kind, hash) of rows whose first column is a hash, for `forget`."""
    return [(kind, bytes(row[0])) for row in rows]
