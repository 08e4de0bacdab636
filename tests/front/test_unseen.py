"""Secrets are nowhere to be read: logs, errors, metrics, dumps of settings."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient
from structlog.testing import capture_logs

from polyplane import Plane
from polyplane.marks import Secret
from polyplane.security.redaction import MASK, Redactor, is_secret_name, parts_of
from polyplane.serve.token import ops_token
from polyplane.settings import PREFIX, Settings
from tests.conftest import PlaneOf
from tests.flow.vault import Account
from tests.flow.vault_app import application

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 100
CANARY = "ecanary"
"""In every secret, and nowhere else."""


def secret_settings() -> list[str]:
    """The names of all."""
    fields = Settings.model_fields.items()
    return [name for name, field in fields if "SecretStr" in str(field.annotation)]


def canaries() -> dict[str, str]:
    """A value with a canary for every secret setting; URLs have theirs in the password."""
    made = {}
    for number, name in enumerate(secret_settings()):
        value = f"{CANARY}{number}-{'x' * 20}"
        is_url = name.endswith("_url")
        made[name] = f"postgresql://ada:{value}@127.0.0.1:1/x" if is_url else value
    made["nats_url"] = f"nats://{CANARY}-a-token-alone-{'y' * 20}@127.0.0.1:1"
    made["cache_url"] = f"redis://:{CANARY}%2Fquoted%20{'z' * 12}@127.0.0.1:1/0"
    made["encryption_keys"] = f"a:{CANARY}{'a' * 30},b:{CANARY}{'b' * 30}"
    return made


def test_a_process_that_says_all_it_knows_says_no_secret(tmp_path: Path) -> None:
    (tmp_path / "ops.token").write_text(f"{CANARY}-of-the-operator-{'o' * 20}")
    kept = {"postgres": {"password": f"{CANARY}-of-an-engine-{'p' * 20}"}}
    (tmp_path / "secrets.json").write_text(json.dumps(kept))
    environ = {f"{PREFIX}{name.upper()}": value for name, value in canaries().items()}
    done = subprocess.run(
        [sys.executable, "-m", "tests.front.talkative", str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": "/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "RuntimeError" in done.stderr.splitlines()[-1], said[-2_000:]
    assert len(secret_settings()) > 15
    for line in said.splitlines():
        assert CANARY not in line, line
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert {line.get("logger") for line in lines} >= {"some.driver", "py.warnings", "asyncio"}
    assert sum(MASK in line for line in said.splitlines()) > 200
    assert "127.0.0.1:1" in said, "where it is may be read"


FORMS = [
    "postgresql://ada:{}@host:5432/x",
    "could not connect to redis://:{}@host:6379",
    "Authorization: Bearer {}",
    "{{'authorization': 'Bearer {}', 'host': 'x'}}",
    "Cookie: pp_session={}; a=b",
    "[(b'cookie', b'pp_session={}')]",
    "password={} host=x",
    '{{"password": "{}", "x": 1}}',
    "https://s3/x?X-Amz-Signature={}&X-Amz-Date=1",
    "api_key={}",
    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
]


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_known_by_its_form(form: str) -> None:
    told = Redactor().text(f"before {form.format('hunter2hunter2')} after")
    assert "hunter2" not in told and MASK in told and told.startswith("before ")


def test_what_is_no_secret_is_left_alone() -> None:
    redactor = Redactor(["short", "a-long-secret"])
    for text in ("a short word", "http://127.0.0.1:8765/docs", "lag_ms=3 tokens: 7", "cookie jar"):
        assert redactor.text(text) == text
    assert redactor.anything({"a": [1, None, True, 2.5], "key_id": "k1", "tokens_total": "7"}) == {
        "a": [1, None, True, 2.5],
        "key_id": "k1",
        "tokens_total": "7",
    }
    assert redactor.anything({"api_key": "x", "at": "a-long-secret!"}) == {
        "api_key": MASK,
        "at": f"{MASK}!",
    }
    deep: dict[str, Any] = {"x": "end"}
    for _ in range(50):
        deep = {"x": deep}
    assert MASK in str(redactor.anything(deep))
    redactor.learn(["learned-later"])
    assert redactor.text("learned-later") == MASK
    assert is_secret_name("DB_PASSWORD") and not is_secret_name("position")


def test_parts_of_a_setting() -> None:
    assert parts_of("postgresql://ada:p%40ss@h/x") == {"p%40ss", "p@ss"}
    assert parts_of("nats://token@h") == {"token"}
    assert parts_of("http://h/x?api_key=abc&n=1") == {"abc"}
    assert parts_of("nats://h:4222") == set()
    assert parts_of("a:k1,b:k2") == {"a:k1,b:k2", "k1", "k2"}


async def test_what_is_asked_of_the_api_tells_no_secret(
    plane_of: PlaneOf,
    client_of: Callable[[Plane], AsyncClient],
    caplog: pytest.LogCaptureFixture,
) -> None:
    plane = await plane_of(applications=[application])
    async with plane.write(actor="ada") as tx:
        tx.add(Account(owner_id="ada", name="ada", token=Secret(f"{CANARY}-of-a-column")))
    await plane.caught_up()
    password = f"{CANARY} of a person 4711"
    people, email = plane.identity.people, "ada@example.org"
    await people.first_administrator(email, await people.hash_of(email, password))
    http, said = client_of(plane), [""]
    operator = {"Authorization": f"Bearer {ops_token(plane.settings.home)}"}
    shown = [ops_token(plane.settings.home), password]

    async def ask(method: str, path: str, **given: Any) -> Any:
        answer = await http.request(method, path, **given)
        said.append(answer.text + str(answer.headers.multi_items()))
        return answer

    given = {"email": email, "password": password}
    caplog.set_level(logging.WARNING)
    with capture_logs() as logged:
        begun = await http.post("/api/v1/auth/sign-in", json=given)  # which shows it once
        token = begun.json()["token"]
        shown.append(token)
        mine = {"Authorization": f"Bearer {token}"}
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/nothing"):
            await ask("GET", path, headers=mine)
        for path in ("status", "projections", "keys", "audit", "audit/export", "users", "sagas"):
            await ask("GET", f"/api/v1/ops/{path}", headers=operator)
        for path in ("me", "sessions", "api-keys"):
            await ask("GET", f"/api/v1/auth/{path}", headers=mine)
        await ask("POST", "/api/v1/ops/verify", headers=operator)
        wrong = [{**given, "email": [password]}, {**given, "password": {password: token}}, [given]]
        for body in wrong:
            await ask("POST", "/api/v1/auth/sign-in", json=body)
        await ask("POST", "/api/v1/auth/password", json={"old": password}, headers=mine)
        await ask("POST", "/api/v1/ops/users", json=given, headers=operator)
        await ask("POST", "/api/v1/auth/sign-in", content=f'{{"password": "{password}"')
        await ask("GET", "/api/v1/auth/me", headers={"Authorization": f"Bearer {token}x"})
        await ask("GET", "/api/v1/auth/me", headers={"Authorization": f"Basic {password}"})
    said += [str(logged), repr(plane.settings), plane.settings.model_dump_json()]
    said += [record.getMessage() for record in caplog.records if record.name != "httpx"]
    url = plane.settings.url("database_url") or ""
    shown += [it for it in parts_of(url) if len(it) > 8]
    everything = "\n".join(said)
    for secret in [CANARY, *shown]:
        at = everything.find(secret)
        assert at < 0, everything[max(0, at - 300) :][:600]
