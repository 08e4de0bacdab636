"""Who may do what on NATS: users, their subjects, and the configuration that says so. Pure.

What is a plane's lies in an account of its own, named as its namespace: streams and subjects of
other accounts are not there for it, whatever it asks for. Inside of it rights are subjects. Each
user gets answers below `_INBOX.<user>` and hears no others.

Programs outside are in a second account, to which the plane's lends the few subjects they need:
what they name as reply, and so what the server answers, stays there. In the plane's own account an
answer could be sent to any subject, and be kept by any stream.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

import bcrypt

from polyplane.security.realm import Realm, Sender

OBSERVER: Final = "observer"
SYSTEM: Final = "SYS"
"""The account of the server itself; no namespace is written in capitals."""

_STREAM_VERBS: Final = ("INFO", "CREATE", "UPDATE", "PURGE", "MSG.GET")
"""Neither DELETE nor SNAPSHOT nor RESTORE: those are the administrator's."""
_CONSUMER_API: Final = ("CREATE.*", "CREATE.*.>", "INFO.*.*", "DELETE.*.*", "MSG.NEXT.*.*")
_WATCHED: Final = ("HEALTHZ", "STATSZ", "VARZ", "JSZ")
_COST: Final = 4
"""The least there is: the passwords are 192 random bits, which nobody finds by trying."""
_STANDARD: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_OF_BCRYPT: Final = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class Rights(NamedTuple):
    """Subjects that a user may publish to, and listen to; nothing else. `takes` are the durable
    consumers that are to be there for it, each with the subject of its events.
    """

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    takes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Login:
    """One user. `password` is a bcrypt hash; without `rights` all of its account is allowed."""

    user: str
    password: str
    rights: Rights | None = None


def inbox(user: str) -> str:
    """Below which subject `user` gets its answers."""
    return f"_INBOX.{user}"


def of_plane(realm: Realm) -> Rights:
    """A plane: its own subjects, and its streams, which it makes and empties, never deletes."""
    own = f"{realm.namespace}.>"
    streams = (f"$JS.API.STREAM.{verb}.*" for verb in _STREAM_VERBS)
    consumers = (f"$JS.API.CONSUMER.{verb}" for verb in _CONSUMER_API)
    answers = f"{inbox(realm.plane)}.>"
    return Rights((own, "$JS.API.INFO", *streams, *consumers), (own, answers))


def of_observer() -> Rights:
    """Who asks the server how it is; in its own account, where nobody's messages are."""
    asked = tuple(f"$SYS.REQ.SERVER.PING.{what}" for what in _WATCHED)
    return Rights(asked, (f"{inbox(OBSERVER)}.>",))


def of_sender(
    namespace: str,
    sender: Sender,
    *,
    inbound: Sequence[str],
    streams: Sequence[str],
    orders: Mapping[str, str],
) -> Rights:
    """A program outside: to `inbound` of its application, under its tenant and name; points of
    its tenant to `streams`; and those events of type `orders` whose subject is its name, from the
    durable consumer `<what the type maps to>-<tenant>-<name>`. Nothing else is read, or asked for.
    """
    tenant, name = sender.tenant, sender.name
    publish = [f"{namespace}.inbound.{sender.application}.{it}.{tenant}.{name}" for it in inbound]
    publish += [f"{namespace}.streams.{it}.{tenant}" for it in streams]
    takes = []
    for kind, taker in orders.items():
        durable = f"{taker}-{tenant}-{name}"
        takes.append((durable, f"{namespace}.events.{tenant}.{kind}.{name}"))
        publish += [
            f"$JS.API.CONSUMER.MSG.NEXT.{namespace}-events.{durable}",
            f"$JS.ACK.{namespace}-events.{durable}.>",
        ]
    answers = f"{inbox(sender.user(namespace))}.>"
    return Rights(tuple(publish), (answers,), tuple(takes))


def hashed(password: str, salt: str) -> str:
    """The bcrypt hash of a random `password`; the same for the same `salt`, any secret text."""
    raw = b64encode(sha256(salt.encode()).digest()[:16]).decode().rstrip("=")
    salted = f"$2b${_COST:02d}$" + raw.translate(str.maketrans(_STANDARD, _OF_BCRYPT))
    return bcrypt.hashpw(password.encode(), salted.encode()).decode()


def accounts(
    namespace: str, logins: Sequence[Login], senders: Sequence[Login], observers: Sequence[Login]
) -> str:
    """The part of a server's configuration that says who comes, and may what: the account of a
    namespace, the one of programs outside, and the server's own.
    """
    lent = [(f"{namespace}.inbound.>", ""), (f"{namespace}.streams.>", "")]
    lent += [(f"$JS.ACK.{namespace}-events.>", "")]
    lent += [(f"$JS.API.CONSUMER.MSG.NEXT.{namespace}-events.*", "response_type: stream, ")]
    outside = outside_of(namespace)
    exports = (f'{{ service: "{it}", {how}accounts: [{outside}] }}' for it, how in lent)
    imports = (f'{{ service: {{ account: {namespace}, subject: "{it}" }} }}' for it, _ in lent)
    return "\n".join(
        [
            f"system_account: {SYSTEM}",
            "accounts {",
            f"  {namespace}: {{",
            "    jetstream: enabled",
            *_listed("users", map(line_of, logins)),
            *_listed("exports", exports),
            "  }",
            f"  {outside}: {{",
            *_listed("users", map(line_of, senders)),
            *_listed("imports", imports),
            "  }",
            f"  {SYSTEM}: {{",
            *_listed("users", map(line_of, observers)),
            "  }",
            "}",
        ]
    )


def outside_of(namespace: str) -> str:
    """The account of the programs outside."""
    return f"{namespace}-outside"


def line_of(login: Login) -> str:
    """One user, as it stands in a list of users."""
    said = [f"user: {json.dumps(login.user)}", f"password: {json.dumps(login.password)}"]
    if login.rights is not None:
        publish, subscribe = _allowed(login.rights.publish), _allowed(login.rights.subscribe)
        said.append(f"permissions: {{ publish: {publish}, subscribe: {subscribe} }}")
    return f"{{ {', '.join(said)} }}"


def _allowed(subjects: tuple[str, ...]) -> str:
    return f"{{ allow: {json.dumps(list(subjects))} }}"


def _listed(name: str, lines: Iterable[str]) -> list[str]:
    return [f"    {name}: [", *(f"      {line}" for line in lines), "    ]"]
