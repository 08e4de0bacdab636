"""The first administrator, people and keys from the command line, on a real home."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from polyplane.access.first import FILE, check_first, name_first
from polyplane.errors import Misconfigured, Refused
from tests.flow.test_cli_up import PROGRAM, ROOT, START_TIMEOUT_S, envelope, home, run, running

__all__ = ["home"]

ADMIN, ADA = "admin@example.org", "ada@example.org"
PASSWORD = "correct horse battery"
AUTH = "api/v1/auth"


def told(*words: str, home: Path, line: str, code: int = 0) -> dict[str, Any]:
    """What a command answers that reads a password from its standard input."""
    done = subprocess.run(
        [*PROGRAM, *words, "--json", "--home", str(home)],
        cwd=home if words[0] == "init" else ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        input=f"{line}\n",
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
    )
    found: dict[str, Any] = envelope(done, code)["data"]
    return found


def signed_in(api: str, email: str, password: str = PASSWORD) -> httpx.Response:
    """The answer to a sign-in."""
    given = {"email": email, "password": password}
    return httpx.post(f"{api}/{AUTH}/sign-in", json=given, trust_env=False)


@pytest.mark.long
def test_from_an_empty_home_to_people_who_may(home: Path) -> None:
    init = ("init", "--admin-email", ADMIN)
    assert told(*init, home=home, line=PASSWORD)["administrator"] == ADMIN
    assert (home / FILE).stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in (home / FILE).read_text()
    with running(home) as up:
        assert not (home / FILE).exists()
        begun = signed_in(up.api, ADMIN).json()
        client = httpx.Client(
            base_url=f"{up.api}/api/v1/",
            headers={"Authorization": f"Bearer {begun['token']}"},
            trust_env=False,
        )
        me = client.get("auth/me").json()
        assert (me["is_administrator"], me["tenant"]) == (True, "default")
        assert client.get("ops/status").status_code == 200

        add = ("users", "add", ADA, "--role", "viewer", "--tenant", "acme")
        assert told(*add, home=home, line=PASSWORD)["email"] == ADA
        notes = f"{up.api}/api/v1/notebook/notes"
        hers = {"Authorization": f"Bearer {signed_in(up.api, ADA).json()['token']}"}
        write = {"json": {"body": "hers"}, "headers": hers}
        assert httpx.post(notes, **write).status_code == 403  # type: ignore[arg-type]
        role = run("users", "role", ADA, "editor", "--tenant", "acme", "--json", home=home)
        assert envelope(role)["data"]["role"] == "editor"
        assert httpx.post(notes, **write).status_code == 201  # type: ignore[arg-type]
        known = envelope(run("users", "identities", ADA, "--json", home=home))["data"]
        assert known == {"email": ADA, "identities": []}
        gone = run("users", "unlink", ADA, str(UUID(int=1)), "--json", home=home)
        assert gone.returncode == Refused.exit_code, gone.stdout
        disabled = envelope(run("users", "disable", ADA, "--json", home=home))["data"]
        assert disabled["status"] == "disabled"
        assert httpx.get(notes, headers=hers).status_code == 401
        listed = envelope(run("users", "list", "--json", home=home))["data"]["users"]
        assert {it["email"]: it["status"] for it in listed} == {ADMIN: "active", ADA: "disabled"}

        make = ("api-keys", "make", "reader", "--tenant", "acme", "--days", "1", "--json")
        made = envelope(run(*make, home=home))["data"]
        by_key = {"Authorization": f"Bearer {made['key']}"}
        assert httpx.get(notes, headers=by_key).status_code == 200
        assert httpx.get(notes).status_code == 401
        revoke = ("api-keys", "revoke", made["id"], "--tenant", "acme", "--json")
        assert envelope(run(*revoke, home=home))["data"] == {"id": made["id"]}
        assert httpx.get(notes, headers=by_key).status_code == 401
        assert up.stop() == 0
    # Without an `up`, on a plane of the command's own.
    keys = envelope(run("api-keys", "list", "--tenant", "acme", "--json", home=home))["data"]
    assert keys == {"keys": [], "next": None}


async def test_what_is_named_or_given_makes_no_default_one(tmp_path: Path) -> None:
    for email, password in ((ADMIN, ""), ("", PASSWORD)):
        with pytest.raises(Misconfigured, match="POLYPLANE_INIT_ADMIN_PASSWORD"):
            check_first(email, password)
    for email, password in ((ADMIN, "admin"), (ADMIN, ADMIN), ("admin", PASSWORD)):
        with pytest.raises(Refused):
            check_first(email, password)
        with pytest.raises(Refused):
            await name_first(tmp_path, email, password)
    assert list(tmp_path.iterdir()) == []
