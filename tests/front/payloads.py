"""Texts that mean something to a language we speak to: by language, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Final

CANARY: Final = "canary"
"""The table, the key and the stream that must not change."""
FILE: Final = "/tmp/polyplane_injected"
SLEEP_S: Final = 40
"""A payload that is carried out holds its request up for so long."""

LANGUAGES: Final[dict[str, tuple[str, ...]]] = {
    "sql": (
        "' OR '1'='1",
        "' OR 1=1 --",
        "'; DROP TABLE canary; --",
        "'); DROP TABLE canary; --",
        "1; DELETE FROM canary",
        "'; UPDATE canary SET said = 'injected'; --",
        "'; INSERT INTO canary VALUES (2, 'injected'); --",
        "' UNION SELECT id, said FROM canary --",
        "' UNION ALL SELECT NULL, NULL, said FROM canary --",
        "'; CREATE ROLE injected SUPERUSER; --",
        "'; CREATE TABLE injected (id int); --",
        f"'; COPY canary TO '{FILE}'; --",
        f"'; COPY canary TO PROGRAM 'touch {FILE}'; --",
        "'||(SELECT said FROM canary)||'",
        f"'||pg_sleep({SLEEP_S})||'",
        f"1; SELECT pg_sleep({SLEEP_S})",
        f"'; SELECT pg_sleep({SLEEP_S}); --",
        "$$; DROP TABLE canary; $$",
        "\\'; DROP TABLE canary; --",
        "x'::regclass; DROP TABLE canary; --",
        "'; SET ROLE polyplane; --",
        "'; SELECT set_config('polyplane.tenant', 'other', false); --",
        "%' AND said LIKE '%",
        "name) FROM canary; --",
        "(SELECT said FROM canary)",
        "1) ORDER BY 1; --",
        "E'\\\\047'; DROP TABLE canary",
        "/**/OR/**/1=1",
    ),
    "filter": (
        '{"$ne": null}',
        '{"$gt": ""}',
        '{"$where": "sleep(1000)"}',
        '{"and": [{"field": "tenant_id", "op": "!=", "value": ""}]}',
        '{"must_not": []}',
        '{"should": [{"is_empty": {"key": "x"}}]}',
        '{"ge": 0}',
        '[{"tenant_id": "other"}]',
        "tenant_id",
        "owner_id",
        "__proto__",
        "__class__.__init__.__globals__",
        "{{7*7}}",
        "${7*7}",
        "{0.__class__}",
        "%(tenant)s",
        ":tenant_id",
        "$1",
        "?",
    ),
    "lancedb": (
        "x' OR '1'='1",
        "x') OR ('1'='1",
        "x' OR tenant_id != '",
        "x' OR tenant_id IS NOT NULL OR 'a'='",
        "x' OR key IS NOT NULL --",
        "') OR true OR (said = '",
        "x' OR said LIKE '%",
        "x\\' OR 1=1 --",
        "x'' OR 1=1 --",
        "`said` = 'x' OR 1=1",
        "said IN ('x') OR 1=1",
        "true",
        "1 = 1",
        "x' AND regexp_match(said, '.*') OR 'a'='a",
        "x' OR deleted = false OR 'a'='b",
    ),
    "clickhouse": (
        "' OR 1=1 --",
        "') OR 1=1 --",
        "x' UNION ALL SELECT name FROM system.tables --",
        "x'; DROP TABLE meter; --",
        "value) FROM meter; DROP TABLE meter --",
        "sleepEachRow(3)",
        f"x' OR sleep({SLEEP_S}) --",
        "file('/etc/passwd', 'CSV')",
        "x' OR (SELECT count() FROM url('http://127.0.0.1:1/', CSV)) --",
        "{place:String}",
        "{p0:Identifier}",
        "place` OR 1=1 --",
        '"place" OR 1=1',
        "x' INTO OUTFILE '/tmp/polyplane_injected' --",
        "x\\' OR 1=1 --",
        "x\\\\' OR 1=1 --",
        "x' SETTINGS max_memory_usage=1 --",
        "system.tables",
        "x' FORMAT JSON --",
    ),
    "s3": (
        "../other/secret",
        "../../.polyplane/seals",
        "..%2f..%2fother",
        "/other/secret",
        "\\..\\other",
        "other/../../x",
        "x?versionId=1",
        "x?acl",
        "x?delete",
        "x#fragment",
        ".polyplane/seals/1",
        "x\ty",
        "a" * 1_200,
        "..;/other",
        "%2e%2e/%2e%2e/",
        "<Key>other</Key>",
        "x&response-content-type=text/html",
        '"; filename="evil.html',
        "x\r\nX-Amz-Acl: public-read",
        "‮fdp.exe",
    ),
    "nats": (
        ">",
        "*",
        "*.*",
        "other.>",
        "$JS.API.STREAM.DELETE.canary",
        "$JS.API.STREAM.PURGE.canary",
        "$SYS.REQ.SERVER.PING",
        "_INBOX.>",
        "a.b.c",
        ".a",
        "a.",
        "a..b",
        "a b",
        "x\r\nPUB canary 5\r\nhello\r\n",
        "x\r\nSUB > 1\r\n",
        "x\tcanary",
        "canary",
        "changes.>",
        "events.other.x",
    ),
    "cache": (
        "*",
        "canary",
        "..:canary",
        "x:canary",
        "x\r\nFLUSHALL\r\n",
        "x\r\n*1\r\n$8\r\nFLUSHALL\r\n",
        "x\r\nSET canary injected\r\n",
        "x\nDEL canary\n",
        "{canary}",
        "x{canary}y",
        "[a-z]*",
        "?anary",
        "x y",
        "redis.call('flushall')",
        "'..redis.call('flushall')..'",
        "]] redis.call('flushall') --",
        ":",
        "::",
    ),
    "cypher": (
        "' OR 1=1 //",
        "x' OR d.body IS NOT NULL //",
        "x'}) RETURN d //",
        "x'}) DETACH DELETE d //",
        "x' SET d.body = 'injected' //",
        "x') MATCH (m) DETACH DELETE m //",
        "x' UNION MATCH (m) RETURN m //",
        "`) DETACH DELETE (d:`Deed",
        "Deed`) DETACH DELETE d //",
        "Deed|Concept",
        "LEADS]->(m) DETACH DELETE m //",
        "*1..9",
        "body: 'x'}) RETURN d //",
        "d.body} RETURN 1 //",
        "MATCH (d) RETURN d",
        "MATCH (d:Deed) DETACH DELETE d",
        "CALL dbms.listConfig()",
        "CALL show_tables() RETURN *",
        f"COPY (MATCH (d:Deed) RETURN d.*) TO '{FILE}'",
        "LOAD CSV FROM 'http://127.0.0.1:1/' AS row RETURN row",
        "LOAD FROM '/etc/passwd' RETURN *",
        "INSTALL httpfs",
        "$said",
        "$`said`",
        "x\\' OR 1=1 //",
        "x\\u0027 OR 1=1 //",
        "/**/OR/**/true",
    ),
}

_AROUND: Final = ("{}", "x{}", "{}x", "'{}", '"{}', "{}'", "{} --", "{}/*", "{}#", "\\{}", " {} ")
_WRITTEN: Final = ("{}", "{}", "{}", "%25{}", "{}%00", "﻿{}", "ʼ{}", "{}\u2028")


def payloads(seed: int) -> Iterator[tuple[str, str]]:
    """Endlessly (language, text), each text once: first as they are, in turn, then dressed up."""
    dice = Random(seed)
    seen: set[str] = set()
    plain = [(name, text) for name, texts in LANGUAGES.items() for text in texts]
    dice.shuffle(plain)
    for name, text in plain:
        if text not in seen:
            seen.add(text)
            yield name, text
    for number in count():
        name, text = plain[number % len(plain)]
        text = dice.choice(_WRITTEN).format(dice.choice(_AROUND).replace("{}", "{0}").format(text))
        if dice.random() < 0.2:
            text = "".join(dice.choice((it.upper(), it.lower())) for it in text)
        if text not in seen:
            seen.add(text)
            yield name, text
        else:
            dice.random()
            yield name, f"{text}{number}"
