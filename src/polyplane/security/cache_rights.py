"""Who may do what on Valkey or Redis: users of its access control lists. Pure.

A plane may use the keys and channels that begin with its namespace, and what works on keys. SCAN
shows the names of all keys in its database, whoever has them: no list can change that.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from polyplane.security.realm import Realm

ADMIN: Final = "admin"
OBSERVER: Final = "observer"

_GIVEN: Final = (
    *("keyspace", "string", "hash", "list", "set", "sortedset", "stream", "bitmap", "hyperloglog"),
    *("pubsub", "transaction", "scripting", "connection"),
)
_COMMANDS: Final = (
    "-@all",
    *(f"+@{category}" for category in _GIVEN),
    "+time",
    # Of what these categories hold: all that stops, empties, shows or changes the server.
    "-@dangerous",
    "-@admin",
    "+info",  # figures of the request cache: evictions, memory, since when it runs
    "-randomkey",
    "-dbsize",
    "-pubsub",
    "-function",
    "-fcall",
    "-fcall_ro",
    "-script|flush",
    "-script|kill",
    "-script|debug",
    "-client",
    "+client|id",
    "+client|setinfo",
    "+client|setname",
)


def of_plane(realm: Realm) -> str:
    """The keys and channels of its namespace, and every command on them that asks no more."""
    own = f"{realm.namespace}:*"
    return " ".join(["resetkeys", f"~{own}", "resetchannels", f"&{own}", *_COMMANDS])


def of_observer() -> str:
    """Who asks the server how it is, and sees no key."""
    return "resetkeys resetchannels -@all +ping +info"


def of_admin() -> str:
    """Everything."""
    return "~* &* +@all"


def hashed(password: str) -> str:
    """What stands for a random password, of 192 bits, in the server's own files."""
    return f"#{sha256(password.encode()).hexdigest()}"


def users(realm: Realm, *, plane: str, observer: str, admin: str) -> list[str]:
    """The lines of a server's configuration, given what stands for each password."""
    return [
        "user default reset",
        f"user {realm.plane} on {plane} {of_plane(realm)}",
        f"user {OBSERVER} on {observer} {of_observer()}",
        f"user {ADMIN} on {admin} {of_admin()}",
    ]


def statements(realm: Realm) -> list[str]:
    """What an administrator of a server of one's own runs, having put in the password."""
    return [
        f"ACL SETUSER {realm.plane} reset on >PASSWORD {of_plane(realm)}",
        f"ACL SETUSER {OBSERVER} reset on >PASSWORD {of_observer()}",
        "ACL SAVE",
    ]
