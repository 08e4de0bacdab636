"""The credentials of the embedded engines: each may do what it must, and is refused all else."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final
from urllib.parse import urlsplit

import nats
import psutil
import pytest
import redis
from botocore.exceptions import ClientError
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry

from polyplane.domains.laboratory import application
from polyplane.embedded import Engines
from polyplane.errors import NotFound, Refused
from polyplane.feed.jetstream import connect
from polyplane.ops.credentials import sender_rights
from polyplane.security.realm import Realm, Sender, bucket_of
from polyplane.stores.objects import s3
from tests.flow.embedded_s3 import client_of
from tests.flow.told import spoken

MINE: Final = Realm("mine", bucket_of("mine"))
WANTED: Final = ("nats", "valkey", "seaweedfs")
ONE, OTHER = Sender("laboratory", "acme", "bench-1"), Sender("laboratory", "acme", "bench-2")
EVENTS: Final = "mine.events.acme.laboratory.work_order.issued"
API: Final = "$JS.API"


async def admitted(engines: Engines, sender: Sender) -> str:
    rights = sender_rights([application], "mine", sender)
    return await engines.admit(sender.user("mine"), rights)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    # Not tmp_path: pytest closes the folders above it, now and then, to every other user.
    home = Path(mkdtemp(prefix="polyplane-test-"))
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="module")
async def engines(home: Path) -> AsyncIterator[Engines]:
    """One set for the module, with a plane's bucket, and what is not the plane's beside it."""
    engines = Engines(home, wanted=WANTED, realm=MINE)
    await engines.start()
    try:
        with redis.Redis.from_url(engines.admins["valkey"]) as admin:
            admin.set("theirs:default:1", "secret")
        store = await s3.connect(
            engines.urls["s3"], bucket=MINE.bucket, owner_url=engines.logins["s3.owner"]
        )
        await store.prepare()
        await store.put("acme/k", b"1", content_type="text/plain")
        await store.close()
        root = client_of(engines.admins["s3"])
        for bucket in ("theirs", f"{MINE.bucket}-2"):
            root.create_bucket(Bucket=bucket)
            root.put_object(Bucket=bucket, Key="k", Body=b"secret")
        feed = await connect(engines.urls["nats"], "mine")
        await feed.ensure("mine-events", ["mine.events.>"], keep=False)
        await feed.close()
        yield engines
    finally:
        await engines.stop()


# NATS: (who, pub or sub, subject, allowed)
PLANE: Final = [
    ("pub", "mine.changes.public.note.3", True),
    ("pub", "mine.inbound.laboratory.activity.acme.bench-1", True),
    ("pub", "mine.hint", True),
    ("sub", "mine.>", True),
    ("sub", "_INBOX.mine-plane.>", True),
    *[("pub", f"{API}.STREAM.{it}.mine-events", True) for it in ("INFO", "CREATE", "UPDATE")],
    *[("pub", f"{API}.STREAM.{it}.mine-events", True) for it in ("PURGE", "MSG.GET")],
    ("pub", f"{API}.CONSUMER.CREATE.mine-events", True),
    ("pub", f"{API}.CONSUMER.CREATE.mine-events.c.mine.events.>", True),
    ("pub", f"{API}.CONSUMER.MSG.NEXT.mine-events.c", True),
    ("pub", f"{API}.INFO", True),
    ("pub", "theirs.changes.public.note.3", False),
    ("pub", "minefield.hint", False),
    *[("sub", it, False) for it in (">", "*.>", "theirs.>", "$JS.>", "$SYS.>", "_INBOX.>")],
    ("sub", "_INBOX.mine~laboratory~acme~bench-1.>", False),
    *[("pub", f"{API}.STREAM.{it}.mine-events", False) for it in ("DELETE", "MSG.DELETE")],
    *[("pub", f"{API}.STREAM.{it}.mine-events", False) for it in ("SNAPSHOT", "RESTORE")],
    *[("pub", f"{API}.{it}", False) for it in ("STREAM.LIST", "ACCOUNT.PURGE.mine")],
    *[("pub", f"$SYS.REQ.SERVER.PING.{it}", False) for it in ("VARZ", "CONNZ")],
    ("pub", "$SYS.REQ.SERVER.X.RELOAD", False),
]
SENDER: Final = [
    ("pub", "mine.inbound.laboratory.activity.acme.bench-1", True),
    ("pub", "mine.streams.telemetry.acme", True),
    ("sub", "_INBOX.mine~laboratory~acme~bench-1.>", True),
    ("pub", f"{API}.CONSUMER.MSG.NEXT.mine-events.controller-acme-bench-1", True),
    ("pub", "$JS.ACK.mine-events.controller-acme-bench-1.1.2.3.4.5", True),
    ("pub", "mine.inbound.laboratory.activity.acme.bench-2", False),
    ("pub", "mine.inbound.laboratory.activity.other.bench-1", False),
    ("pub", "mine.inbound.laboratory.analysis.acme.bench-1", False),
    ("pub", "mine.inbound.other.activity.acme.bench-1", False),
    ("pub", "mine.streams.telemetry.other", False),
    ("pub", "mine.streams.telemetry", False),
    *[("pub", f"mine.{it}", False) for it in ("hint", "changes.public.note.1", f"{EVENTS}.x")],
    *[("sub", it, False) for it in (">", "mine.>", f"{EVENTS}.bench-1", "_INBOX.>", "$JS.>")],
    ("sub", "_INBOX.mine-plane.>", False),
    ("sub", "_INBOX.mine~laboratory~acme~bench-2.>", False),
    *[("pub", f"{API}.STREAM.{it}.mine-events", False) for it in ("INFO", "MSG.GET", "DELETE")],
    ("pub", f"{API}.DIRECT.GET.mine-events", False),
    *[("pub", f"{API}.{it}", False) for it in ("INFO", "STREAM.NAMES", "STREAM.LIST")],
    ("pub", f"{API}.CONSUMER.INFO.mine-events.controller-acme-bench-1", False),
    ("pub", f"{API}.CONSUMER.CREATE.mine-events", False),
    ("pub", f"{API}.CONSUMER.CREATE.mine-events.controller-acme-bench-1", False),
    (
        "pub",
        f"{API}.CONSUMER.CREATE.mine-events.controller-acme-bench-1.{EVENTS}.bench-1",
        False,
    ),
    ("pub", f"{API}.CONSUMER.DURABLE.CREATE.mine-events.controller-acme-bench-1", False),
    ("pub", f"{API}.CONSUMER.MSG.NEXT.mine-events.controller-acme-bench-2", False),
    ("pub", "$JS.ACK.mine-events.controller-acme-bench-2.1.2.3.4.5", False),
    ("pub", f"{API}.CONSUMER.DELETE.mine-events.controller-acme-bench-1", False),
]
OBSERVER: Final = [
    *[("pub", f"$SYS.REQ.SERVER.PING.{it}", True) for it in ("HEALTHZ", "STATSZ", "VARZ", "JSZ")],
    ("sub", "_INBOX.observer.>", True),
    ("pub", "$SYS.REQ.SERVER.PING.CONNZ", False),
    ("pub", "$SYS.REQ.SERVER.X.RELOAD", False),
    ("pub", "mine.hint", False),
    ("pub", f"{API}.STREAM.INFO.mine-events", False),
    *[("sub", it, False) for it in (">", "mine.>", "$SYS.>", "_INBOX.>")],
]


@pytest.mark.parametrize("who, table", [("plane", PLANE), ("one", SENDER), ("seen", OBSERVER)])
async def test_nats_gives_each_its_subjects_and_no_others(
    engines: Engines, who: str, table: list[tuple[str, str, bool]]
) -> None:
    urls = {
        "plane": engines.urls["nats"],
        "one": await admitted(engines, ONE),
        "seen": engines.logins["nats.observer"],
    }
    async with spoken(urls[who]) as connection:
        found = [(verb, it, await connection.may(verb, it)) for verb, it, _ in table]
    assert found == table


async def test_a_sender_takes_its_own_orders_and_cannot_have_answers_sent_elsewhere(
    engines: Engines,
) -> None:
    """Answers go to whatever is named as reply: to nothing of the plane's."""
    feed, url = await connect(engines.urls["nats"], "mine"), await admitted(engines, ONE)
    kept = {"mine-changes": "mine.changes.>", "mine-in": "mine.inbound.>"}
    for name, subject in kept.items():
        await feed.ensure(name, [subject], keep=False)
    for durable, subject in engines.taken.items():
        await feed.hold(durable, subject)
    for name in ("bench-1", "bench-2", "bench-1", "bench-1"):
        await feed._js.publish(f"{EVENTS}.{name}", name.encode())
    client = await nats.connect(url, inbox_prefix=f"_INBOX.{urlsplit(url).username}")
    try:
        stream, consumer = client.jetstream(timeout=5), "controller-acme-bench-1"
        orders = await stream.pull_subscribe_bind(consumer=consumer, stream="mine-events")
        for _ in range(2):
            (order,) = await orders.fetch(1, timeout=5)
            assert order.data == b"bench-1"
            await order.ack_sync(timeout=5)
        own = "mine.inbound.laboratory.activity.acme.bench-1"
        for n, reply in enumerate(("mine.changes.a.b.1", f"{own[:-1]}2", own)):
            await client.publish(f"{API}.CONSUMER.MSG.NEXT.mine-events.{consumer}", b"1", reply)
            await client.publish(f"$JS.ACK.mine-events.{consumer}.1.1.1.1.{n}", b"+ACK", reply)
            await client.publish(own, b"report", reply)
        assert (await stream.publish(own, b"the last")).seq == 4  # all of before has been done
        assert (await feed.bounds("mine-changes")).last == 0
        held = [await feed.get("mine-in", n) for n in range(1, 5)]
        assert [(it.subject, it.body) for it in held if it] == [
            *[(own, b"report")] * 3,
            (own, b"the last"),
        ]
    finally:
        await client.close()
        await feed.close()


def test_no_two_senders_have_one_name() -> None:
    with pytest.raises(Refused, match="tenant"):
        Sender("laboratory", "a~b", "c")
    with pytest.raises(Refused, match="name"):
        Sender("laboratory", "a", "b.>")
    with pytest.raises(NotFound, match="labs"):
        sender_rights([application], "mine", Sender("labs", "a", "b"))


async def test_senders_stay_known_when_the_server_dies_and_others_are_admitted(
    engines: Engines,
) -> None:
    first = await admitted(engines, ONE)
    async with spoken(engines.urls["nats"]) as plane:
        second = await admitted(engines, OTHER)
        assert await plane.say("PUB mine.hint 0\r\n") == ""  # nobody else was cut off
    assert second != first == await admitted(engines, ONE)
    restarts = engines.health()["nats"].restarts
    os.kill(engines.health()["nats"].pid or 0, signal.SIGKILL)
    third = await admitted(engines, Sender("laboratory", "acme", "bench-3"))  # while it is away
    assert engines.health()["nats"].restarts >= restarts
    for url in (first, second, third, engines.urls["nats"]):
        async with spoken(url):
            pass


# Valkey

KEPT: Final = [
    ("PING",),
    ("INFO", "stats"),
    ("SET", "mine:default:1", "x", "EX", "60"),
    ("GET", "mine:default:1"),
    ("HSET", "mine::e:1", "p", "1"),
    ("HMGET", "mine::e:1", "p", "d"),
    ("EXPIRE", "mine::e:1", "60"),
    ("UNLINK", "mine::e:2"),
    ("SCAN", "0", "MATCH", "mine:*"),
    ("EVAL", "redis.call('TIME'); return redis.call('GET', KEYS[1])", "1", "mine:default:1"),
    ("SCRIPT", "LOAD", "return 1"),
    ("PUBLISH", "mine:live", "x"),
    ("XADD", "mine:s", "*", "a", "b"),
    ("CLIENT", "SETNAME", "me"),
]
REFUSED: Final = [
    ("GET", "theirs:default:1"),
    ("SET", "theirs:default:2", "x"),
    ("DEL", "theirs:default:1"),
    ("GET", "minefield:1"),
    ("EVAL", "return redis.call('GET', KEYS[1])", "1", "theirs:default:1"),
    ("EVAL", "return redis.call('GET', 'theirs:default:1')", "0"),
    ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ("RENAME", "theirs:default:1", "mine:1"),
    ("COPY", "theirs:default:1", "mine:1"),
    ("SORT", "mine:s", "GET", "theirs:*"),
    ("PUBLISH", "theirs:live", "x"),
    ("SUBSCRIBE", "theirs:live"),
    ("PSUBSCRIBE", "*"),
    *[(it,) for it in ("FLUSHALL", "FLUSHDB", "MONITOR", "RANDOMKEY", "DBSIZE", "ROLE")],
    *[(it,) for it in ("SHUTDOWN", "SAVE", "BGSAVE", "BGREWRITEAOF", "LASTSAVE")],
    ("KEYS", "mine:*"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "mine-plane", "+@all"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "ID", "1"),
    ("CLIENT", "PAUSE", "1"),
    ("CLIENT", "TRACKING", "ON", "BCAST"),
    ("PUBSUB", "CHANNELS"),
    ("FUNCTION", "LIST"),
    ("SCRIPT", "FLUSH"),
    ("MIGRATE", "127.0.0.1", "1", "mine:default:1", "0", "1"),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("MODULE", "LIST"),
    ("SWAPDB", "0", "1"),
    ("RESTORE", "mine:9", "0", "x"),
    ("LATENCY", "DOCTOR"),
    ("SLOWLOG", "GET"),
    ("DEBUG", "SLEEP", "0"),
]


def refused_by_valkey(client: redis.Redis, words: tuple[str, ...]) -> bool:
    try:
        client.execute_command(*words)  # type: ignore[no-untyped-call]
    except NoPermissionError:
        return True
    except ResponseError as error:
        return "ACL failure" in str(error) or "DEBUG command not allowed" in str(error)
    return False


def test_valkey_gives_the_plane_its_keys_and_no_command_on_the_server(engines: Engines) -> None:
    with redis.Redis.from_url(engines.urls["valkey"], socket_timeout=5) as plane:
        assert [it for it in KEPT if refused_by_valkey(plane, it)] == []
        assert [it for it in REFUSED if not refused_by_valkey(plane, it)] == []
    with redis.Redis.from_url(engines.logins["valkey.observer"], socket_timeout=5) as observer:
        assert observer.ping() and observer.info("server")
        acts = [*KEPT[2:], *REFUSED[:3], ("FLUSHALL",), ("SHUTDOWN",), ("SCAN", "0")]
        assert [it for it in acts if not refused_by_valkey(observer, it)] == []


def test_nobody_comes_to_valkey_without_a_name(engines: Engines) -> None:
    where = urlsplit(engines.urls["valkey"])
    for user in ("default", "admin", "mine-plane", "theirs-plane"):
        once = Retry(NoBackoff(), 0)
        client = redis.Redis(port=where.port or 0, username=user, password="guess", retry=once)
        with client, pytest.raises(AuthenticationError):
            client.ping()


# S3: what each of plane, owner and nobody else may do

VERSIONS: Final = {"VersioningConfiguration": {"Status": "Suspended"}}
RULE: Final = {
    "ID": "x",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
}
OPEN: Final = '{"Version":"2012-10-17","Statement":[]}'
Act = tuple[str, Callable[[Any, str], Any], str]
"""A name, what is done as whom to a bucket, and who may do it to the plane's."""
ACTS: Final[list[Act]] = [
    ("put", lambda c, b: c.put_object(Bucket=b, Key="acme/n", Body=b"1"), "plane"),
    ("get", lambda c, b: c.get_object(Bucket=b, Key="acme/k"), "plane"),
    ("head", lambda c, b: c.head_object(Bucket=b, Key="acme/k"), "plane"),
    ("list", lambda c, b: c.list_objects_v2(Bucket=b), "plane owner"),
    ("uploads", lambda c, b: c.list_multipart_uploads(Bucket=b), "plane"),
    ("upload", lambda c, b: c.create_multipart_upload(Bucket=b, Key="acme/m"), "plane"),
    ("delete", lambda c, b: c.delete_object(Bucket=b, Key="acme/n"), "plane"),
    ("look", lambda c, b: c.head_bucket(Bucket=b), "plane owner"),
    ("versions?", lambda c, b: c.get_bucket_versioning(Bucket=b), "owner"),
    ("rules?", lambda c, b: c.get_bucket_lifecycle_configuration(Bucket=b), "owner"),
    ("tag", lambda c, b: c.put_object_tagging(Bucket=b, Key="k", Tagging={"TagSet": []}), ""),
    ("open", lambda c, b: c.put_bucket_policy(Bucket=b, Policy=OPEN), ""),
    ("closed?", lambda c, b: c.get_bucket_policy(Bucket=b), ""),
    ("publish", lambda c, b: c.put_bucket_acl(Bucket=b, ACL="public-read"), ""),
    ("publish one", lambda c, b: c.put_object_acl(Bucket=b, Key="k", ACL="public-read"), ""),
    ("take", lambda c, b: c.copy_object(Bucket=b, Key="k", CopySource="theirs/k"), ""),
    ("drop", lambda c, b: c.delete_bucket(Bucket=b), ""),
    ("forget", lambda c, b: c.delete_bucket_lifecycle(Bucket=b), "owner"),
    ("versions", lambda c, b: c.put_bucket_versioning(Bucket=b, **VERSIONS), "owner"),
    (
        "rules",
        lambda c, b: c.put_bucket_lifecycle_configuration(
            Bucket=b, LifecycleConfiguration={"Rules": [RULE]}
        ),
        "owner",
    ),
]


@pytest.mark.parametrize("who", ["plane", "owner"])
def test_s3_gives_each_its_acts_on_one_bucket(engines: Engines, who: str) -> None:
    client = client_of(engines.urls["s3"] if who == "plane" else engines.logins["s3.owner"])
    found = {name: allowed(act, client, MINE.bucket) for name, act, _ in ACTS}
    assert found == {name: who in may.split() for name, _, may in ACTS}
    for bucket in ("theirs", f"{MINE.bucket}-2"):
        assert {name for name, act, _ in ACTS if allowed(act, client, bucket)} == set()
    assert not allowed(lambda c, b: c.create_bucket(Bucket=b), client, "made-by-me")


def allowed(act: Callable[[Any, str], Any], client: Any, bucket: str) -> bool:
    try:
        act(client, bucket)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("AccessDenied", "403"):
            return False
        assert code in ("NoSuchLifecycleConfiguration",), code
    return True


# The home itself


def test_no_password_is_in_a_log_or_in_the_list_of_processes(engines: Engines, home: Path) -> None:
    urls = (*engines.urls.values(), *engines.logins.values(), *engines.admins.values())
    secrets = {urlsplit(url).password or "" for url in urls}
    shown = [log.read_text(errors="replace") for log in home.glob("engines/*/log")]
    for health in engines.health().values():
        server = psutil.Process(health.pid)
        shown += [str(it.cmdline()) + str(it.environ()) for it in (server, *server.children(True))]
    assert len(secrets) >= 6 and len(shown) >= 6
    assert [it for it in secrets if any(it in text for text in shown)] == []
    for name in ("secrets.json", "senders.json"):
        assert (home / name).stat().st_mode & 0o777 == 0o600
