"""The programs outside that were admitted to a home's NATS, remembered with their passwords."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from polyplane.embedded.files import read_json, write_file
from polyplane.security.feed_rights import Rights

NAME: Final = "senders.json"
_SECRET_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Admitted:
    """One of them."""

    password: str
    rights: Rights


def admitted(home: Path, namespace: str) -> dict[str, Admitted]:
    """User -> what it may and its password. Raises Misconfigured for a file that is damaged."""
    return {
        user: Admitted(
            it["password"],
            Rights(
                tuple(it["publish"]),
                tuple(it["subscribe"]),
                tuple((durable, subject) for durable, subject in it["takes"]),
            ),
        )
        for user, it in read_json(home / NAME).get(namespace, {}).items()
    }


def remember(home: Path, namespace: str, senders: Mapping[str, Admitted]) -> None:
    """Keep these as all of a namespace's."""
    known = read_json(home / NAME)
    known[namespace] = {
        user: {"password": it.password, **it.rights._asdict()} for user, it in senders.items()
    }
    write_file(home / NAME, json.dumps(known, indent=1))


def admit(home: Path, namespace: str, user: str, rights: Rights) -> dict[str, Admitted]:
    """All of a namespace's, `user` among them with these rights, and the password it had."""
    known = admitted(home, namespace)
    password = known[user].password if user in known else secrets.token_hex(_SECRET_BYTES)
    wanted = Admitted(password, rights)
    if known.get(user) != wanted:
        known[user] = wanted
        remember(home, namespace, known)
    return known
