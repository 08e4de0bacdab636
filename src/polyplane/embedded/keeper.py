"""One engine kept running: adopted or started, watched, restarted with back-off, stopped."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from signal import SIGHUP
from typing import Any, Literal

import structlog

from polyplane.embedded import ports, seal
from polyplane.embedded.engine import Engine, NotReady, Site
from polyplane.embedded.files import write_file
from polyplane.embedded.home import Ledger, Record
from polyplane.embedded.process import Child, find, identify, spawn, sweep, tail, trim
from polyplane.errors import EngineFailed, PolyplaneError

_log = structlog.get_logger(__name__)

State = Literal["starting", "up", "restarting", "failed", "stopped"]

ADOPT_TIMEOUT_S = 2.0
READY_TIMEOUT_S = 5.0
READY_POLL_S = 0.02
PORT_TRIES_MAX = 3
WATCH_PERIOD_S = 5.0
BACKOFF_MIN_S = 0.2
BACKOFF_MAX_S = 10.0
BACKOFF_DOUBLINGS_MAX = 10
STEADY_S = 60.0  # up for so long, the next death counts as the first
FAILED_AFTER = 5  # restarts in vain until its state is "failed"; the attempts go on


@dataclass(frozen=True)
class EngineHealth:
    """What is known of one engine: `since` is when it entered its state."""

    name: str
    state: State
    pid: int | None
    port: int | None
    restarts: int
    since: datetime
    last_error: str
    note: str = ""
    """What was found damaged when it started, and what was done."""


class Keeper:
    """Keeps one engine running at one site. `start`, then `keep` as a task; then `stop`."""

    def __init__(
        self, engine: Engine, site: Site, ledger: Ledger, tell: Callable[[str], None]
    ) -> None:
        self._engine = engine
        self._site = site  # with the remembered ports, whichever there are
        self._ledger = ledger
        self._tell = tell
        self._child: Child | None = None
        self.health = EngineHealth(engine.name, "stopped", None, None, 0, datetime.now(UTC), "")

    @property
    def logins(self) -> dict[str, str]:
        """Where clients of fewer rights find it, by what they are for."""
        return self._engine.logins(self._site)

    @property
    def url(self) -> str:
        """Where the plane finds it."""
        return self._engine.url(self._site)

    @property
    def admin(self) -> str:
        """Where who may do everything finds it; nothing where there is nobody."""
        return self._engine.admin(self._site)

    @property
    def site(self) -> Site:
        """What the server is given now."""
        return self._site

    def reload(self, **changed: Any) -> None:
        """Change what the server is given, and have it read its files anew while it runs.

        A server that is just being started may yet have the old ones: the caller looks.
        """
        engine, site = self._engine, replace(self._site, **changed)
        self._site = site
        for name, text in engine.files(site).items():
            write_file(site.folder / name, text)
        if (record := self._ledger.records.get(engine.name)) is not None:
            self._ledger.records[engine.name] = replace(
                record, fingerprint=engine.fingerprint(site)
            )
            self._ledger.write()
        if self._child is not None:
            self._child.send(SIGHUP)

    async def start(self) -> None:
        """Adopt the server that the last run left, or start one.

        Raises EngineFailed if it does not come up.
        """
        began = time.monotonic()
        self._enter("starting")
        how = "adopted" if await self._adopt() else "up"
        if how == "up":
            await self._start_anew()
        self._enter("up")
        _log.info(f"engine_{how}", engine=self._engine.name)
        port = self.health.port
        self._tell(f"{self._engine.name}: {how} on port {port} ({time.monotonic() - began:.1f} s)")

    async def keep(self) -> None:
        """Restart the server whenever it dies, for ever. Cancel this before `stop`."""
        deaths = 0
        while True:
            began = time.monotonic()
            why = await self._death()
            deaths = 1 if time.monotonic() - began > STEADY_S else deaths + 1
            self._enter("restarting", why)
            _log.warning("engine_died", engine=self._engine.name, why=why)
            while not await self._revive(deaths):
                deaths += 1
            self._enter("up", restarts=self.health.restarts + 1)
            _log.info("engine_restarted", engine=self._engine.name, deaths=deaths)

    async def stop(self) -> None:
        """End the server: in order if it lets us, by force after its time is up."""
        engine = self._engine
        clean = True
        if self._child is not None and not self._child.gone:
            clean = await self._end(self._child)
        elif self._child is not None:
            clean = False
        # What a killed server, or a start cut short, leaves behind.
        if not await sweep(self._site.folder, self._engine):
            clean = False
        for path in engine.litter(self._site):
            with suppress(PermissionError):  # another user's, whose server had the port before
                path.unlink(missing_ok=True)
        if clean and engine.name in self._ledger.records:
            await self._seal()
            del self._ledger.records[engine.name]
            self._ledger.write()
        self._child = None
        self._enter("stopped")

    async def _seal(self) -> None:
        """Remember what the files are like, before it counts as stopped in order."""
        try:
            await asyncio.to_thread(seal.note, self._site.folder)
        except OSError as error:  # a full disk: a fault of the files will not be seen
            _log.warning("engine_not_sealed", engine=self._engine.name, error=str(error))

    async def _adopt(self) -> bool:
        """Take over the recorded server if it is that process, started alike, and serves."""
        record = self._ledger.records.get(self._engine.name)
        if record is None or set(self._site.ports) != set(self._engine.ports):
            return False
        pid = record.identity.pid
        if pid not in find(self._site.folder, [self._engine.program_name]):
            return False
        child = Child(pid)  # opened first: what is then true of the pid is true of the child
        same = identify(pid) == record.identity
        if not same or record.fingerprint != self._engine.fingerprint(self._site):
            return False
        try:
            await self._until_ready(child, ADOPT_TIMEOUT_S)
        except EngineFailed:
            return False  # the sweep that follows ends it
        self._child = child
        return True

    async def _start_anew(self) -> None:
        name = self._engine.name
        if not await sweep(self._site.folder, self._engine):
            self._tell(f"{name}: ended what the last run left")
        for attempt in range(1, PORT_TRIES_MAX + 1):
            self._settle_ports()
            try:
                return await self._launch()
            except EngineFailed:
                stolen = not all(map(ports.is_free, self._site.ports.values()))
                if attempt == PORT_TRIES_MAX or not stolen:
                    raise

    def _settle_ports(self) -> None:
        name, known = self._engine.name, self._ledger.ports
        taken = {port for other in known for port in known[other].values() if other != name}
        chosen = ports.choose(self._engine.ports, known.get(name, {}), taken)
        for use, port in known.get(name, {}).items():
            if chosen.get(use, port) != port:
                self._tell(f"{name}: port {port} is taken by a stranger, now {chosen[use]}")
        known[name] = chosen
        self._ledger.write()
        self._site = replace(self._site, ports=chosen)

    async def _launch(self) -> None:
        """Start the server, write it down, and wait until it serves; if it does not, end it.

        Once it is let mend what keeps it from starting.
        """
        engine, site = self._engine, self._site
        clean = engine.name not in self._ledger.records
        if clean and (wrong := await asyncio.to_thread(seal.broken, site.folder)):
            clean = False
            self._noted(await engine.broken(site, seal.told(wrong)), seal.told(wrong))
        seal.take_off(site.folder)
        try:
            await self._run(clean=clean)
        except EngineFailed as error:
            if not (done := await engine.mended(site, str(error))):
                raise
            self._noted(done, str(error))
            await self._run(clean=False)

    def _noted(self, done: str, why: str) -> None:
        name, last = self._engine.name, why.strip().splitlines()[-1][-300:]
        _log.warning("engine_damaged", engine=name, why=why, done=done)
        self._tell(f"{name}: its files are damaged ({last}). {done}")
        words = f"Its files were damaged ({last}). {done}"
        self.health = replace(self.health, note=f"{self.health.note} {words}".strip())

    async def _run(self, *, clean: bool) -> None:
        engine, site = self._engine, self._site
        trim(site.log)
        for name, text in engine.files(site).items():
            write_file(site.folder / name, text)
        await engine.prepare(site, clean=clean)
        child = self._child = spawn(engine.name, engine.argv(site), site)
        if (identity := identify(child.pid)) is not None:
            self._ledger.records[engine.name] = Record(identity, engine.fingerprint(site))
            self._ledger.write()
        try:
            await self._until_ready(child, engine.start_timeout_s)
            await engine.proven(site, clean=clean)
        except EngineFailed:
            await child.stop(engine.stop_signals)
            raise

    async def _until_ready(self, child: Child, timeout_s: float) -> None:
        name = self._engine.name
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                async with asyncio.timeout(READY_TIMEOUT_S):
                    await self._engine.ready(self._site)
                if not child.gone:  # else it was a stranger who answered
                    return
            # A TimeoutError is an OSError; a stranger on our port may say what does not parse.
            except (NotReady, OSError, ValueError) as error:
                why = str(error) or type(error).__name__
            if child.gone:
                raise EngineFailed(name, f"{child.ending}: {tail(self._site.log, child.log_start)}")
            if time.monotonic() > deadline:
                raise EngineFailed(name, f"not ready in {timeout_s:.0f} s: {why}")
            await asyncio.sleep(READY_POLL_S)

    async def _death(self) -> str:
        """Wait until the server has died, or is no use any more; how. Keeps its log short."""
        assert self._child is not None
        while not self._child.gone:
            try:
                trim(self._site.log)
            except OSError as error:  # a full disk must not end the watch
                _log.warning("log_not_trimmed", engine=self._engine.name, error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_PERIOD_S):
                    await self._child.exited()
                    break
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(READY_TIMEOUT_S):
                    why = await self._engine.lame(self._site, self._child.log_start)
                if why:
                    await self._end(self._child)
                    return why
        return self._child.ending

    async def _end(self, child: Child) -> bool:
        """Have it end; whether it did so in order."""
        in_order = await self._engine.can_end_in_order(self._site)
        signals = self._engine.stop_signals if in_order else self._engine.stop_signals[1:]
        return await child.stop(signals) and in_order

    async def _revive(self, deaths: int) -> bool:
        """One attempt to restart, on the same ports, after the back-off for so many deaths."""
        delay_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(deaths - 1, BACKOFF_DOUBLINGS_MAX))
        await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
        try:
            await sweep(self._site.folder, self._engine)
            await self._launch()
        except (PolyplaneError, OSError) as error:
            _log.warning("engine_not_restarted", engine=self._engine.name, error=str(error))
            self._enter("failed" if deaths >= FAILED_AFTER else "restarting", str(error))
            return False
        return True

    def _enter(
        self, state: State, error: str | None = None, *, restarts: int | None = None
    ) -> None:
        before = self.health
        self.health = replace(
            before,
            state=state,
            pid=self._child.pid if self._child is not None and state == "up" else None,
            port=self._site.ports.get(self._engine.ports[0]),
            restarts=before.restarts if restarts is None else restarts,
            since=before.since if before.state == state else datetime.now(UTC),
            last_error=before.last_error if error is None else error,
        )
