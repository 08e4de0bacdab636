"""The first administrator: named before there is a plane to ask, made when there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import orjson

from polyplane.access.hashing import Hasher
from polyplane.access.people import People, User
from polyplane.errors import Misconfigured
from polyplane.security.emails import checked_email
from polyplane.security.passwords import check_password
from polyplane.security.secret_file import keep_secret

FILE: Final = "administrator.json"
"""Who is to be it, in the home, until the next start: the address and the password's hash."""


async def name_first(home: Path, email: str, password: str) -> None:
    """Have the next start make this administrator, unless there is one.

    Raises Refused for an address or a password that is not taken.
    """
    email = checked_email(email)
    check_password(password, email)
    hasher = Hasher()
    try:
        named = {"email": email, "password_hash": await hasher.hash(password)}
    finally:
        hasher.close()
    keep_secret(home / FILE, orjson.dumps(named))


def check_first(email: str, password: str) -> None:
    """Raise Misconfigured when only one of them is given; Refused for one that is not taken."""
    if bool(email) != bool(password):
        raise Misconfigured(
            "The first administrator needs an e-mail address and a password.",
            fix="Set both POLYPLANE_INIT_ADMIN_EMAIL and POLYPLANE_INIT_ADMIN_PASSWORD.",
        )
    if email:
        check_password(password, checked_email(email))


async def make_first(home: Path, people: People, email: str, password: str) -> User | None:
    """Make the administrator that was named by `name_first`, or is given; None: nobody was made.

    Raises as `check_first` does.
    """
    check_first(email, password)
    path = home / FILE
    if path.exists():
        named = orjson.loads(path.read_bytes())
        made = await people.first_administrator(named["email"], named["password_hash"])
        path.unlink()  # after it is made: a death in between makes nobody twice
        return made
    if not email or await people.has_administrator():
        return None
    return await people.first_administrator(email, await people.hash_of(email, password))
