"""E-mail addresses: when one is one, and when two are the same."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final
from unicodedata import category, normalize

from polyplane.errors import Refused

EMAIL_MAX: Final = 254


def email_key(text: str) -> str:
    """What makes two spellings the same address: case and Unicode's forms fall away.

    Also for what is no address: then it is nobody's.
    """
    # A form of its own may begin with a blank: it is taken off last.
    folded = normalize("NFKC", normalize("NFKC", text.strip()).casefold()).strip()
    local, _, domain = folded.rpartition("@")
    with suppress(UnicodeError):  # what is no domain equals only itself
        domain = domain.encode("idna").decode("ascii")
    return f"{local}@{domain}"


def checked_email(text: str) -> str:
    """`text` without blanks around it; Refused when it cannot be an e-mail address."""
    email = text.strip()
    local, _, domain = email_key(email).rpartition("@")
    if (
        len(email) > EMAIL_MAX
        or not local
        or "@" in local
        or not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", domain)
        or any(category(letter)[0] in "ZC" for letter in email)
    ):
        raise Refused("This is no e-mail address.", field="email")
    return email
