"""Passwords: which ones are taken, and the one form they are hashed in."""

from __future__ import annotations

from typing import Final
from unicodedata import normalize

from polyplane.errors import Refused
from polyplane.security.emails import email_key

LENGTH_MIN: Final = 8
LENGTH_MAX: Final = 256
_LETTERS_MIN: Final = 4
_LOCAL_MIN: Final = 4
"""Shorter names are part of many a good password."""


def spelled(password: str) -> str:
    """The form that is hashed: one password, whichever keyboard wrote it."""
    return normalize("NFKC", password)


def check_password(password: str, email: str) -> None:
    """Raise Refused for a password that is too short, too long, or guessed from the e-mail."""
    length = len(spelled(password))
    if length < LENGTH_MIN:
        raise _refused(f"A password has at least {LENGTH_MIN} characters.")
    if length > LENGTH_MAX or len(password) > LENGTH_MAX:
        raise _refused(f"A password has at most {LENGTH_MAX} characters.")
    if len(set(spelled(password))) < _LETTERS_MIN:
        raise _refused(f"A password has at least {_LETTERS_MIN} different characters.")
    folded, whole = spelled(password).casefold(), email_key(email)
    local, _, domain = whole.rpartition("@")
    guessed = {whole, local, local[::-1], domain, domain.partition(".")[0]}
    if folded in guessed or (len(local) >= _LOCAL_MIN and local in folded):
        raise _refused("The password is in the e-mail address, or the address in the password.")


def _refused(why: str) -> Refused:
    return Refused(why, field="password", fix="Choose another one; several words are good.")
