"""What an administrator gives a server of one's own, so that a plane has no more than it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import unquote, urlsplit

import orjson

from polyplane.errors import NotFound
from polyplane.model.application import Application
from polyplane.security import cache_rights, feed_rights, object_rights, series_rights
from polyplane.security.feed_rights import Login, Rights
from polyplane.security.realm import Realm, Sender
from polyplane.settings import Settings

HASH: Final = "BCRYPT-HASH"
"""Stands for what `nats server passwd` prints for a password."""


def sender_rights(applications: Sequence[Application], namespace: str, sender: Sender) -> Rights:
    """What a program outside may do on NATS. Raises NotFound for an unknown application."""
    for it in applications:
        if it.name == sender.application:
            return feed_rights.of_sender(
                namespace,
                sender,
                inbound=[inbound.name for inbound in it.inbound if inbound.outside],
                streams=[stream.name for stream in it.streams if stream.tenant_column],
                orders=it.orders,
            )
    known = ", ".join(it.name for it in applications) or "none"
    raise NotFound(f"There is no application {sender.application!r}.", fix=f"Known: {known}.")


def nats(settings: Settings, sender: tuple[Sender, Rights] | None = None) -> list[str]:
    """Accounts for the configuration of a server, which is read anew at `nats-server --signal
    reload`; or one user for the account of programs outside, and what it needs besides.
    """
    realm = Realm.of(settings)
    namespace = realm.namespace
    if sender is not None:
        who, rights = sender
        found = [feed_rights.line_of(Login(who.user(namespace), HASH, rights))]
        for durable, subject in rights.takes:
            asked = f"--pull --ack explicit --max-pending 1 --wait 30s --filter {subject}"
            found.append(f"# nats consumer add {namespace}-events {durable} {asked} --defaults")
        return found
    logins = [Login(realm.plane, HASH, feed_rights.of_plane(realm)), Login(realm.admin, HASH)]
    observers = [Login(feed_rights.OBSERVER, HASH, feed_rights.of_observer())]
    return feed_rights.accounts(namespace, logins, [], observers).splitlines()


def valkey(settings: Settings) -> list[str]:
    """Statements for valkey-cli or redis-cli, as an administrator."""
    return cache_rights.statements(Realm.of(settings))


def s3(settings: Settings) -> list[str]:
    """Three policies, as JSON: the plane's (objects_url), the bucket's owner's
    (objects_owner_url), and a reader's, for copies.
    """
    bucket = Realm.of(settings).bucket
    found = []
    for who in (object_rights.PLANE, object_rights.OWNER, object_rights.READER):
        text = orjson.dumps(object_rights.policy(bucket, who), option=orjson.OPT_INDENT_2)
        found += [f"-- {who}", *text.decode().splitlines()]
    return found


def clickhouse(settings: Settings) -> list[str]:
    """Statements for clickhouse-client, as an administrator."""
    url = settings.url("series_url") or ""
    path = unquote(urlsplit(url).path.strip("/")) if not url.startswith("chdb:") else ""
    realm = Realm.of(settings)
    return series_rights.statements(path or realm.namespace, realm.plane)


def qdrant(settings: Settings) -> list[str]:
    """The part of a server's configuration that has keys. Qdrant knows no rights below a server
    for who makes collections, as a plane does.
    """
    return [
        "service:",
        "  enable_tls: true",
        "  api_key: KEY            # the plane's, POLYPLANE_VECTOR_API_KEY: it makes collections",
        "  read_only_api_key: KEY  # for people: reads every collection",
        "# Planes that do not trust each other need a server each.",
    ]


PRINTED: Final[Mapping[str, Callable[[Settings], list[str]]]] = {
    "nats": nats,
    "valkey": valkey,
    "s3": s3,
    "clickhouse": clickhouse,
    "qdrant": qdrant,
}
"""Engine -> what makes its credentials."""
