"""A real Neo4j for the tests: the community server from Maven Central, on loopback.

`python -m tests.neo4j_server` runs one for measurements, says its URL, and stops with its input.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import quote

import pytest
from neo4j import GraphDatabase
from neo4j.exceptions import AuthError, DriverError, Neo4jError

from polyplane.embedded.ports import choose

VERSION = "5.26.30"
PASSWORD = "only-for-tests"
_INSTALL_S, _START_S, _STOP_S = 900, 120, 30
_OPENED = [
    f"--add-opens=java.base/{name}=ALL-UNNAMED"
    for name in ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent")
]
_HASTY = [
    "-XX:TieredStopAtLevel=1",
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:-BytecodeVerificationRemote",
]
_POM = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>polyplane</groupId><artifactId>neo4j-for-tests</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.neo4j.app</groupId><artifactId>neo4j-server</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.neo4j</groupId><artifactId>neo4j</artifactId><version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
_CONF = """server.default_listen_address=127.0.0.1
server.bolt.listen_address=127.0.0.1:{port}
server.http.enabled=false
server.https.enabled=false
server.memory.pagecache.size=64m
db.tx_log.rotation.size=16m
db.tx_log.preallocate=false
db.transaction.monitor.check.interval=200ms
dbms.usage_report.enabled=false
dbms.security.allow_csv_import_from_file_urls=false
dbms.security.auth_max_failed_attempts=0
"""


_GUARD = """
import os, subprocess, sys, threading
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
with open(sys.argv[1], "w") as file:
    file.write(str(child.pid))
threading.Thread(target=lambda: (sys.stdin.buffer.read(), child.kill()), daemon=True).start()
os._exit(child.wait() & 255)
"""


def needed() -> list[str]:
    """Where Java and Maven are. Without them the test is skipped, and under CI it fails."""
    found = [shutil.which(name) for name in ("java", "mvn")]
    programs = [program for program in found if program is not None]
    if len(programs) == 2:
        return programs
    reason = "NOT TESTED: Neo4j needs Java 17 and Maven (java, mvn)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def class_path() -> str:
    """Every jar of the server: fetched by Maven, as its settings say, and kept where it keeps them.

    Which they are is remembered between runs, so that Maven, too, runs once.
    """
    _, maven = needed()
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "polyplane" / f"neo4j-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "class-path"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes of tests one fetches
        if known.exists() and all(map(os.path.exists, known.read_text().split(os.pathsep))):
            return known.read_text()
        (folder / "pom.xml").write_text(_POM)
        fresh = folder / "class-path.new"
        goal = ["dependency:build-classpath", f"-Dmdep.outputFile={fresh}"]
        run = subprocess.run(
            [maven, "--quiet", "--batch-mode", "-DincludeScope=runtime", *goal],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_S,
        )
        if run.returncode != 0:
            raise RuntimeError(f"Maven could not fetch Neo4j {VERSION}:\n{run.stdout[-4000:]}")
        fresh.rename(known)
    return known.read_text()


class Neo4j:
    """One server on a folder of its own. It ends with the process that has started it."""

    def __init__(self, home: Path, *, heap_mb: int = 384, warm: bool = False) -> None:
        """`warm`: compile what runs often, for measurements; else starting is what counts."""
        self.home = home
        self.port = choose(["neo4j"], {}, [])["neo4j"]
        self.address = f"bolt://127.0.0.1:{self.port}"
        self.url = f"bolt://neo4j:{quote(PASSWORD)}@127.0.0.1:{self.port}"
        self._java = [
            "-Xms128m",
            f"-Xmx{heap_mb}m",
            "-XX:+UseSerialGC",
            "-Dlog4j2.disable.jmx=true",
        ]
        self._java += [] if warm else _HASTY
        self._process: subprocess.Popen[bytes] | None = None
        (home / "conf").mkdir(parents=True)
        (home / "conf" / "neo4j.conf").write_text(_CONF.format(port=self.port))

    def start(self) -> None:
        """Start it, on what its folder holds, and wait until it answers."""
        java, _ = needed()
        where = [f"--home-dir={self.home}", f"--config-dir={self.home / 'conf'}"]
        entry = ["org.neo4j.server.CommunityEntryPoint", *where]
        command = [java, *self._java, *_OPENED, "-cp", class_path(), *entry]
        with (self.home / "out.log").open("ab") as log:
            # The pipe is its life line: when we are gone, in whatever way, so is it.
            self._process = subprocess.Popen(
                [sys.executable, "-c", _GUARD, self.home / "pid", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        process, until = self._process, time.monotonic() + _START_S
        assert process is not None
        while True:
            if process.poll() is not None or time.monotonic() > until:
                said = (self.home / "out.log").read_text(errors="replace")
                self.kill()
                raise RuntimeError(f"Neo4j did not start:\n{said[-4000:]}")
            with suppress(DriverError, Neo4jError, OSError):
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    pass
                _greet(self.address)
                return
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def freeze(self, *, frozen: bool) -> None:
        """Let it stand still, its connections open; or go on."""
        os.kill(self._pid(), signal.SIGSTOP if frozen else signal.SIGCONT)

    def _pid(self) -> int:
        return int((self.home / "pid").read_text())

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError, FileNotFoundError):
            os.kill(self._pid(), how)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.kill(self._pid(), signal.SIGKILL)
            process.wait(_STOP_S)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _greet(url: str) -> None:
    """The first user must change his password before anything else."""
    try:
        with GraphDatabase.driver(url, auth=("neo4j", PASSWORD)) as driver:
            driver.verify_connectivity()
    except AuthError:
        with GraphDatabase.driver(url, auth=("neo4j", "neo4j")) as driver:
            change = "ALTER CURRENT USER SET PASSWORD FROM 'neo4j' TO $password"
            with driver.session(database="system") as session:
                session.run(change, password=PASSWORD).consume()


@contextmanager
def neo4j(**options: Any) -> Iterator[Neo4j]:
    """One that runs, on an empty folder."""
    needed()
    home = Path(mkdtemp(prefix="polyplane-neo4j-"))
    server = Neo4j(home, **options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    """Run one until standard input ends."""
    with neo4j(heap_mb=2048, warm=True) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
