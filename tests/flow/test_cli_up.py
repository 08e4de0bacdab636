"""`polyplane up` and the commands that work through it, as processes on a real home."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import httpx
import lancedb
import psutil
import pytest

from polyplane import Settings
from polyplane.serve.token import ops_token

ROOT = Path(__file__).parents[2]
PROGRAM = [
    sys.executable,
    "-c",
    "from polyplane.serve.cli.program import Program, run;"
    "from polyplane.__main__ import PROGRAM as shipped;"
    "run(Program({'notebook': 'tests.flow.notebook'}, shipped.demo, shipped.controller))",
]
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


def run(*words: str, home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    return subprocess.run(
        [*PROGRAM, *words, "--home", str(home)],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
    )


def envelope(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    """The envelope a command printed; the only thing on its standard output."""
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found) == {"status", "command", "duration_ms", "data"}
    return found


@dataclass
class Up:
    """A running `up`."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    home: Path

    @property
    def api(self) -> str:
        return str(self.ready["data"]["api_url"])

    def servers(self) -> list[psutil.Process]:
        """Its engines."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it by a signal; its exit code."""
        servers = self.servers()
        self.process.send_signal(number)
        code = self.process.wait(STOP_TIMEOUT_S)
        assert [p for p in servers if p.is_running()] == []
        return code


@contextmanager
def running(home: Path, *words: str, **options: Any) -> Iterator[Up]:
    """`up --json` on `home`, ready."""
    with subprocess.Popen(
        [*PROGRAM, "up", "--json", "--home", str(home), *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        try:
            assert process.stdout is not None
            yield Up(process, json.loads(process.stdout.readline()), home)
        finally:
            if process.poll() is None:
                process.terminate()


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """A running `up` that the tests of the other commands share; it must end with 0."""
    with new_home() as home, running(home) as up:
        yield up
        assert up.stop() == 0


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home for the tests that start and stop it."""
    with new_home() as home:
        yield home


@contextmanager
def new_home() -> Iterator[Path]:
    """An empty folder; not below pytest's own, see tests/conftest.py."""
    folder = Path(mkdtemp(prefix="polyplane-cli-"))
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)


def ours(up: Up) -> dict[str, str]:
    """What the operator shows."""
    return {"Authorization": f"Bearer {ops_token(up.home)}"}


def write(up: Up, body: str) -> str:
    """Write a note; the token of the write."""
    answer = httpx.post(f"{up.api}/api/v1/notebook/notes", json={"body": body}, headers=ours(up))
    assert answer.status_code == 201
    return answer.headers["polyplane-token"]


def test_a_running_up_answers_the_other_commands(up: Up) -> None:
    assert up.ready["status"] == "ok"
    assert "postgres" in up.ready["data"]["engines"]
    assert "@" not in str(up.ready["data"]["engines"])
    token = write(up, "the kettle is broken")
    found = httpx.get(
        f"{up.api}/api/v1/notebook/search", params={"settled": token}, headers=ours(up)
    )
    assert "the kettle is broken" in found.json()

    status = envelope(run("status", "--json", home=up.home))["data"]
    assert (status["running"], status["api_url"]) == (True, up.api)
    assert status["relay"]["leading"] is True
    assert [p["projection"] for p in status["projections"]] == ["note_search"]

    proof = envelope(run("verify", "--json", home=up.home))
    assert proof["status"] == "ok"
    (part,) = proof["data"]["parts"]
    assert part["rows"] == part["items"] >= 1

    filled = envelope(run("projections", "backfill", "note_search", "--json", home=up.home))
    assert filled["data"] == {"projection": "note_search", "items": part["items"]}
    listed = envelope(run("projections", "list", "--json", home=up.home))["data"]["projections"]
    assert [p["buckets_behind"] for p in listed] == [0]

    rebuilt = envelope(run("rebuild", "note_search", "--json", home=up.home))["data"]
    assert (rebuilt["before"], rebuilt["collection"]) == ("note_search", "note_search_g2")
    back = envelope(run("rebuild", "note_search", "--rollback", "--json", home=up.home))["data"]
    assert (back["before"], back["collection"]) == ("note_search_g2", "note_search")
    prune = ("projections", "prune", "note_search", "--json")
    envelope(run(*prune, home=up.home), code=3)
    assert set(envelope(run(*prune, "--yes", home=up.home))["data"]) == {"dropped"}

    dead = ("projections", "dead")
    assert envelope(run(*dead, "list", "note_search", "--json", home=up.home))["data"] == {
        "projection": "note_search",
        "letters": [],
    }
    envelope(run(*dead, "show", "note_search", "x", "--json", home=up.home), code=3)
    retried = envelope(run(*dead, "retry", "note_search", "--json", home=up.home))["data"]
    assert retried == {"projection": "note_search", "rows": 0}
    envelope(run(*dead, "drop", "note_search", "--json", home=up.home), code=3)
    dropped = run(*dead, "drop", "note_search", "x", "y", "--yes", "--json", home=up.home)
    assert envelope(dropped)["data"]["rows"] == 0

    migrated = envelope(run("migrate", "status", "--json", home=up.home))["data"]["components"]
    assert [(c["component"], c["pending"]) for c in migrated] == [("core", [])]

    unknown = envelope(run("verify", "nothing", "--json", home=up.home), code=3)
    assert unknown["status"] == "error"
    assert unknown["data"]["fix"] == "Known: note_search."


@pytest.mark.long
def test_people_read_tables_and_the_next_step(up: Up) -> None:
    for words, shown in (
        (("status",), "leading"),
        (("verify",), "0 drift"),
        (("projections", "list"), "note_search"),
        (("migrate", "status"), "core"),
    ):
        done = run(*words, home=up.home)
        assert done.returncode == 0
        assert shown in done.stdout
        assert done.stdout.splitlines()[-1].startswith("Next: polyplane ")


def test_a_second_up_refuses_and_names_the_first(up: Up) -> None:
    done = envelope(run("up", "--json", home=up.home), code=5)
    assert done["data"]["error"] == "home_busy"
    assert str(up.process.pid) in done["data"]["message"]
    assert httpx.get(f"{up.api}/readyz").status_code == 200


@pytest.mark.long
def test_a_taken_port_is_replaced_unless_it_was_asked_for(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = envelope(run("up", "--json", "--port", str(port), home=home), code=2)
        assert "--port" in refused["data"]["fix"]
        environ = {**os.environ, "POLYPLANE_API_PORT": str(port)}
        with running(home, "--with-stdin", env=environ, stdin=subprocess.PIPE) as up:
            assert up.api != f"http://127.0.0.1:{port}"
            assert httpx.get(f"{up.api}/healthz").status_code == 200
            servers = up.servers()
            assert up.process.stdin is not None
            up.process.stdin.close()  # as when the program that started it is gone
            assert up.process.wait(STOP_TIMEOUT_S) == 0
            assert [p for p in servers if p.is_running()] == []


@contextmanager
def paused(up: Up, name: str) -> Iterator[None]:
    """The server `name` and its children do not run, though their sockets are open."""
    (server,) = (p for p in up.servers() if p.name() == name and p.ppid() == up.process.pid)
    tree = [server, *server.children(recursive=True)]
    for process in tree:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(tree):
            process.resume()


@pytest.mark.long
def test_an_engine_that_hangs_is_told_and_hangs_nothing_else(up: Up) -> None:
    with paused(up, "valkey-server"):
        health = httpx.get(f"{up.api}/healthz", timeout=3)
        assert health.json()["status"] == "degraded"
        assert health.json()["database"]["valkey"] == "failed"
        assert httpx.get(f"{up.api}/readyz", timeout=10).status_code == 200
        write(up, "without a cache")
    with paused(up, "postgres"):
        health = httpx.get(f"{up.api}/healthz", timeout=3)
        assert (health.status_code, health.json()["status"]) == (200, "failed")
        assert httpx.get(f"{up.api}/readyz", timeout=10).status_code == 503
        metrics = httpx.get(f"{up.api}/metrics", timeout=5).text
        assert 'polyplane_engine_up{engine="postgresql",role="truth"} 0.0' in metrics
        refused = httpx.get(f"{up.api}/api/v1/notebook/notes", timeout=10, headers=ours(up))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    write(up, "it goes on")
    assert httpx.get(f"{up.api}/healthz", timeout=10).json()["status"] == "healthy"


def test_only_our_own_hosts_are_answered(up: Up) -> None:
    answer = httpx.get(f"{up.api}/healthz", headers={"Host": "rebound.example"})
    assert answer.status_code == 421


@pytest.mark.long
def test_a_signal_finishes_the_request_at_hand(home: Path) -> None:
    body = b'{"body": "%s"}' % (b"x" * 990)
    head = (
        b"POST /api/v1/notebook/notes HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\nAuthorization: Bearer %s\r\n\r\n"
        % (len(body), ops_token(home).encode())
    )
    with running(home) as up:
        servers = up.servers()
        with socket.create_connection(("127.0.0.1", int(up.api.rpartition(":")[2]))) as client:
            client.settimeout(STOP_TIMEOUT_S)
            client.sendall(head + body[:500])
            assert httpx.get(f"{up.api}/healthz").status_code == 200  # so it was seen
            up.process.terminate()
            client.sendall(body[500:])
            assert client.recv(100).startswith(b"HTTP/1.1 201")
        assert up.process.wait(STOP_TIMEOUT_S) == 0
        assert [p for p in servers if p.is_running()] == []


def test_a_signal_while_it_starts_leaves_nothing(home: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "up", "--home", str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the first engine is up; others are not
        servers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_TIMEOUT_S) == 0
        assert [p for p in servers if p.is_running()] == []
    assert json.loads(run("status", "--json", home=home).stdout)["data"]["running"] is False


def test_drift_is_found_and_the_command_fails(up: Up) -> None:
    token = write(up, "the fuse has blown")
    httpx.get(f"{up.api}/api/v1/notebook/search", params={"settled": token}, headers=ours(up))
    lancedb.connect(up.home / "lancedb").open_table("note_search").update(
        "text like '%fuse%'", {"digest": "f" * 32}
    )
    found = envelope(run("verify", "--json", home=up.home), code=1)
    assert found["status"] == "drift"
    assert (found["data"]["missing"], found["data"]["stale"], found["data"]["extra"]) == (0, 1, 0)
    assert len(found["data"]["parts"][0]["stale"]) == 1
    shown = run("verify", home=up.home)
    assert shown.returncode == 1
    assert "note_search stale:" in shown.stdout
    kept = envelope(run("repair", "--json", home=up.home), code=1)
    assert (kept["data"]["found"]["stale"], kept["data"]["mended"]) == (1, 0)
    mended = envelope(run("repair", "--yes", "--json", home=up.home))
    assert (mended["data"]["left"]["stale"], mended["data"]["mended"]) == (0, 1)
    assert run("repair", "--yes", home=up.home).stdout.count("nothing to mend") == 1


@pytest.mark.long
def test_files_go_in_and_out(up: Up, tmp_path: Path) -> None:
    file, out = tmp_path / "a file.bin", tmp_path / "out.bin"
    file.write_bytes(os.urandom(1 << 20) * 17)  # more than one part
    put = envelope(run("blobs", "put", str(file), "--json", home=up.home))["data"]
    assert (put["name"], put["size"]) == ("a file.bin", 17 << 20)
    again = envelope(run("blobs", "put", str(file), "--json", home=up.home))["data"]
    assert again["id"] == put["id"]
    # What has come of it another time is not fetched again.
    (tmp_path / "out.bin.part").write_bytes(file.read_bytes()[: 1 << 20])
    envelope(run("blobs", "get", put["id"], "--to", str(out), "--json", home=up.home))
    assert out.read_bytes() == file.read_bytes()
    listed = envelope(run("blobs", "list", "--json", home=up.home))["data"]["blobs"]
    assert [it["id"] for it in listed] == [put["id"]]
    url = envelope(run("blobs", "url", put["id"], "--json", home=up.home))["data"]["url"]
    assert len(httpx.get(url, trust_env=False).content) == 17 << 20
    proof = envelope(run("verify", "blobs", "--deep", "--json", home=up.home))["data"]
    assert (proof["blobs"][0]["rows"], proof["blobs"][0]["deep"]) == (1, 1)
    envelope(run("blobs", "delete", put["id"], "--json", home=up.home), 3)
    envelope(run("blobs", "delete", put["id"], "--yes", "--json", home=up.home))
    shown = envelope(run("blobs", "collect", "--grace", "0", "--json", home=up.home))["data"]
    done = run("blobs", "collect", "--grace", "0", "--yes", "--json", home=up.home)
    assert shown["objects"] == envelope(done)["data"]["objects"] == 1


def test_a_signed_report_is_written_and_checked(up: Up, tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    asked = ("--deep", "--sample", "5", "--seed", "7", "--report", str(file), "--json")
    assert envelope(run("verify", *asked, home=up.home))["status"] == "ok"
    found = envelope(run("verify", "--check", str(file), "--json", home=up.home))["data"]
    assert (found["clean"], found["sample"], found["seed"]) == (True, 5, 7)
    assert found["projections"][0]["deep"] == found["projections"][0]["items"]
    file.write_text(file.read_text().replace('"clean": true', '"clean": false'))
    envelope(run("verify", "--check", str(file), "--json", home=up.home), code=3)


@pytest.mark.long
def test_audit_is_searched_proven_and_handed_out(up: Up, tmp_path: Path) -> None:
    run("projections", "backfill", "note_search", home=up.home)
    asked = ("--action", "projection.*", "--limit", "1", "--json")
    (line,) = envelope(run("audit", "search", *asked, home=up.home))["data"]["lines"]
    assert (line["actor"], line["action"]) == ("operator", "projection.backfill")
    assert line["resource_id"] == "note_search" and line["request_id"] and line["address"]
    file, seals = tmp_path / "lines.jsonl", up.home / "audit.seals"
    envelope(run("audit", "export", "--to", str(file), "--json", home=up.home))
    found = envelope(run("audit", "check", str(file), "--json", home=up.home))["data"]
    assert found["is_whole"] and found["rows"] > found["seals"] > 0
    file.write_text(file.read_text().replace('"note_search"', '"other"'))
    envelope(run("audit", "check", str(file), "--json", home=up.home), code=1)
    assert envelope(run("audit", "verify", "--json", home=up.home))["data"]["is_whole"]
    for kept in (("verify", "--seals", str(seals)), ("check", str(seals))):
        assert "as it was sealed" in run("audit", *kept, home=up.home).stdout


@pytest.mark.long
def test_with_every_engine_elsewhere_the_home_is_still_held(own_settings: Settings) -> None:
    urls = {name: own_settings.url(name) for name in Settings.model_fields if name.endswith("_url")}
    environ = {f"POLYPLANE_{name.upper()}": url for name, url in urls.items() if url}
    environ |= {"POLYPLANE_NAMESPACE": own_settings.namespace}
    with running(own_settings.home, env={**os.environ, **environ}) as up:
        assert up.servers() == []
        status = envelope(run("status", "--json", home=up.home, **environ))["data"]
        assert status["api_url"] == up.api
        envelope(run("up", "--json", home=up.home, **environ), code=5)
        assert up.stop() == 0


@pytest.mark.long
def test_verify_opens_the_plane_itself_when_nothing_runs(home: Path) -> None:
    assert envelope(run("verify", "--json", home=home))["status"] == "ok"
    assert envelope(run("audit", "verify", "--json", home=home))["data"]["is_whole"]


def test_nothing_running_is_no_error(home: Path) -> None:
    assert envelope(run("status", "--json", home=home))["data"]["running"] is False
    told = run("controller", home=home)
    assert told.returncode == 2
    assert "polyplane up" in told.stderr
