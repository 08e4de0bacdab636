"""Child processes: started in a session of their own, watched by pidfd, stopped in bounded time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from polyplane.embedded.engine import Engine, Site
from polyplane.embedded.files import give
from polyplane.errors import EngineFailed

KILL_TIMEOUT_S = 5.0
TAIL_BYTES = 2_000
LOG_BYTES_MAX = 16 * 2**20


@dataclass(frozen=True)
class Identity:
    """One process beyond doubt: a pid is used again, a pid with its start time on a boot is not.

    `started` is in clock ticks since boot.
    """

    pid: int
    started: int
    boot: str


def identify(pid: int) -> Identity | None:
    """Which process has `pid` now; None if none has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    started = int(stat.rpartition(")")[2].split()[19])  # field 22; the name may hold anything
    return Identity(pid, started, Path("/proc/sys/kernel/random/boot_id").read_text().strip())


class Child:
    """A running process, ours or adopted. Make it inside a running event loop."""

    def __init__(
        self, pid: int, popen: subprocess.Popen[bytes] | None = None, log_start: int = 0
    ) -> None:
        """Raises ProcessLookupError if there is no such process.

        `log_start` is where in the log, in bytes, its own lines begin.
        """
        self.pid = pid
        self.log_start = log_start
        self.exit_status: int | None = None
        self._popen = popen
        self._fd = os.pidfd_open(pid)
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._at_exit)

    def _at_exit(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        if self._popen is not None:
            self.exit_status = self._popen.wait()  # returns at once: the pidfd says it has ended
        self._gone.set()

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._gone.is_set()

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        status = self.exit_status
        if status is None:
            return "ended"
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exited with status {status}"

    async def exited(self) -> None:
        """Wait until it has ended."""
        await self._gone.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if not self.gone:
            # The pidfd names this very process, whoever has its pid by now.
            try:
                signal.pidfd_send_signal(self._fd, number)
            except ProcessLookupError:
                return  # ended, and not yet noticed by the loop

    async def stop(self, signals: Sequence[tuple[signal.Signals, float]]) -> bool:
        """Ask it to end by each of `signals`, for its seconds, then kill it.

        Whether the first was enough.
        """
        for number, timeout_s in signals:
            self.send(number)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.exited()
                return number == signals[0][0]
        await self.kill()
        return False

    async def kill(self) -> None:
        """End it now. Raises TimeoutError if not even that works."""
        self.send(signal.SIGKILL)
        async with asyncio.timeout(KILL_TIMEOUT_S):
            await self.exited()


def spawn(name: str, argv: Sequence[str | Path], site: Site) -> Child:
    """Start a program of engine `name` in the site's folder, as its account, writing to its log.

    It gets a session of its own, so a Ctrl-C in our terminal does not reach it, and a fixed
    environment, so it does not depend on who started us. Raises EngineFailed if it cannot be run.
    """
    account = site.account
    environment = {"PATH": os.defpath, "HOME": str(site.folder), "LC_ALL": "C", "TZ": "UTC"}
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    output = os.open(site.log, flags, 0o600)
    give(output, site.folder)
    log_start = os.fstat(output).st_size
    try:
        popen = subprocess.Popen(
            [str(arg) for arg in argv],
            cwd=site.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=0o077,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    except OSError as error:
        raise EngineFailed(name, f"cannot run {argv[0]}: {error}.") from error
    finally:
        os.close(output)
    return Child(popen.pid, popen, log_start)


async def run(name: str, argv: Sequence[str | Path], site: Site, timeout_s: float) -> None:
    """Run a program of engine `name` to its end. Raises EngineFailed if it fails or is too slow."""
    child = spawn(name, argv, site)
    try:
        async with asyncio.timeout(timeout_s):
            await child.exited()
    except TimeoutError as error:
        raise EngineFailed(name, f"{argv[0]} took more than {timeout_s:.0f} s.") from error
    finally:
        child.send(signal.SIGKILL)
    if child.exit_status != 0:
        raise EngineFailed(name, f"{argv[0]} {child.ending}: {tail(site.log, child.log_start)}")


def find(folder: Path, programs: Collection[str]) -> list[int]:
    """The pids of every process that runs one of `programs` inside `folder`.

    This finds a server whoever remembers it, and nothing else: neither a stranger that was given
    a remembered pid, nor a person's shell in the folder.
    """
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                program = Path(entry.path, "comm").read_text(errors="replace").strip()
                if program in programs and _works_in(folder, entry.path):
                    found.append(int(entry.name))
    return found


def _works_in(folder: Path, process: str) -> bool:
    try:
        return Path(os.readlink(f"{process}/cwd")).is_relative_to(folder)
    except PermissionError:
        # Somebody else's; or a container's root, who is not shown the places of our account.
        words = Path(process, "cmdline").read_text(errors="replace").split("\0")
        return any(f"={folder}/" in f"={word}" for word in words)


async def sweep(folder: Path, engine: Engine | type[Engine]) -> bool:
    """End every process of `engine` in its `folder`. Whether all ended of themselves."""
    programs = (engine.program_name, *engine.tools)
    children = _open_all(find(folder, programs))
    pids = {child.pid for child in children}
    heads = [child for child in children if _parent(child.pid) not in pids]
    stops = (head.stop(engine.stop_signals) for head in heads)
    clean = all(await asyncio.gather(*stops))
    # What a killed server leaves: its own children, also those born meanwhile.
    left = _open_all(find(folder, programs))
    for child in (*children, *left):
        await child.kill()
    return clean and not left


def _open_all(pids: list[int]) -> list[Child]:
    children = []
    for pid in pids:
        try:
            children.append(Child(pid))
        except ProcessLookupError:  # ended meanwhile
            continue
    return children


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])


def tail(log: Path, start: int = 0) -> str:
    """The last lines of a log, none from before `start`."""
    with log.open("rb") as file:
        file.seek(max(start, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        return file.read().decode(errors="replace").strip()


def trim(log: Path) -> None:
    """Keep a log bounded: beyond 16 MiB only its last lines stay.

    Its writer appends, so it goes on at the new end.
    """
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        last = tail(log)
        with log.open("r+b") as file:
            file.truncate(0)
        with log.open("ab") as file:
            file.write(f"(older lines were dropped)\n{last}\n".encode())
