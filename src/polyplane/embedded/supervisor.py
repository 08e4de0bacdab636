"""All the engines of one home, as one thing to start and to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from polyplane.embedded.account import engine_account, let_pass
from polyplane.embedded.engine import Engine, Site
from polyplane.embedded.home import Home
from polyplane.embedded.keeper import EngineHealth, Keeper
from polyplane.embedded.nats import Nats, admits
from polyplane.embedded.postgres import Postgres
from polyplane.embedded.process import sweep
from polyplane.embedded.seaweedfs import Seaweedfs
from polyplane.embedded.senders import NAME as SENDERS_FILE, admit, admitted
from polyplane.embedded.valkey import Valkey
from polyplane.errors import EngineFailed, Misconfigured
from polyplane.security.feed_rights import Rights
from polyplane.security.realm import Realm

ENGINES: tuple[type[Engine], ...] = (Postgres, Nats, Valkey, Seaweedfs)
URL_NAMES = {"seaweedfs": "s3"}  # named by what it speaks
ROTATED = ("nats", "valkey", "seaweedfs")
"""Engines that are told their secrets at every start, and remember none."""
ADMIT_TIMEOUT_S = 10.0
ADMIT_POLL_S = 0.02
RELOAD_AGAIN_S = 1.0


class Engines:
    """Real servers as child processes under a home directory, which one process at a time holds.

    They outlive a killed owner; its successor adopts them, or stops them and starts its own.
    """

    def __init__(
        self,
        home: Path,
        *,
        wanted: Sequence[str] = ("postgres", "nats", "valkey", "seaweedfs"),
        realm: Realm | None = None,
    ) -> None:
        """`realm`: all that the plane may touch, whose logins are `urls`.

        Raises Misconfigured for an engine that is not one of ours.
        """
        known = {engine.name for engine in ENGINES}
        if strange := sorted(set(wanted) - known):
            raise Misconfigured(
                f"There is no embedded engine {strange[0]!r}.",
                fix=f"Choose from {', '.join(sorted(known))}.",
            )
        self._home = Home(home)
        self._realm = realm or Realm()
        self._admitting = asyncio.Lock()
        self._wanted = [engine for engine in ENGINES if engine.name in wanted]
        self._unwanted = [engine for engine in ENGINES if engine.name not in wanted]
        self._keepers: dict[str, Keeper] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def urls(self) -> Mapping[str, str]:
        """Where the plane finds each engine that was started, secrets included.

        Under `postgres`, `nats`, `valkey` and `s3`; they do not change while the engines run.
        """
        return {URL_NAMES.get(name, name): k.url for name, k in self._keepers.items()}

    @property
    def logins(self) -> Mapping[str, str]:
        """Where logins of fewer rights find their engine, secrets included: `postgres.app`..."""
        return {
            f"{URL_NAMES.get(name, name)}.{login}": url
            for name, keeper in self._keepers.items()
            for login, url in keeper.logins.items()
        }

    @property
    def admins(self) -> Mapping[str, str]:
        """Where who may do everything finds each engine; nothing of a plane comes so."""
        return {
            URL_NAMES.get(name, name): keeper.admin
            for name, keeper in self._keepers.items()
            if keeper.admin
        }

    def health(self) -> Mapping[str, EngineHealth]:
        """What is known of each engine now."""
        return {name: keeper.health for name, keeper in self._keepers.items()}

    def folder(self, name: str) -> Path:
        """Where the files of an engine are."""
        return self._home.engines / name

    async def start(self, progress: Callable[[str], None] | None = None) -> None:
        """Hold the home, start or adopt every engine, and wait until all serve.

        `progress` is told what happens, a line at a time. Raises HomeBusy if another process
        holds the home, EngineMissing or EngineFailed if an engine is not there
        or does not come up; then nothing is left running.
        """
        tell = progress or _ignore
        engines = [engine() for engine in self._wanted]
        self._home.take()
        try:
            self._keepers = self._make_keepers(engines, tell)
            await self._end_unwanted()
            try:
                async with asyncio.TaskGroup() as group:
                    for keeper in self._keepers.values():
                        group.create_task(keeper.start())
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None
        except BaseException:
            await self.stop()
            raise
        self._tasks = [asyncio.create_task(keeper.keep()) for keeper in self._keepers.values()]

    async def stop(self) -> None:
        """Stop every engine in order, within a bounded time, and let go of the home."""
        try:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.gather(*(keeper.stop() for keeper in self._keepers.values()))
        finally:
            self._tasks = []
            self._home.release()

    async def admit(self, user: str, rights: Rights) -> str:
        """Let a program outside come to NATS as `user`, and do just that; where it finds it.

        Who was admitted before keeps its password. Safe to repeat. Raises Misconfigured where NATS
        is not ours, EngineFailed when it does not take it.
        """
        keeper = self._keepers.get(Nats.name)
        if keeper is None:
            raise Misconfigured(
                "NATS is not one of this home's engines.",
                fix="Make a user there: polyplane credentials print nats.",
            )
        async with self._admitting:
            senders = admit(self._home.path, self._realm.namespace, user, rights)
            loop = asyncio.get_running_loop()
            until = loop.time() + ADMIT_TIMEOUT_S
            again, is_new = loop.time(), senders != keeper.site.senders
            while loop.time() < until:
                if is_new and loop.time() >= again:
                    keeper.reload(senders=senders)
                    again = loop.time() + RELOAD_AGAIN_S
                if await admits(keeper.site, user):
                    return keeper.logins[user]
                await asyncio.sleep(ADMIT_POLL_S)
        raise EngineFailed(Nats.name, f"it did not take {user} in {ADMIT_TIMEOUT_S:.0f} s.")

    @property
    def taken(self) -> Mapping[str, str]:
        """Durable consumers that programs outside need -> the subject of their events."""
        keeper = self._keepers.get(Nats.name)
        senders = keeper.site.senders.values() if keeper else ()
        return dict(taken for it in senders for taken in it.rights.takes)

    def publish_owner(self, api_url: str) -> None:
        """Let `running` tell others where this process serves."""
        self._home.publish(api_url)

    async def _end_unwanted(self) -> None:
        """Stop what the last run left of engines that this one does not want."""
        for engine in self._unwanted:
            await sweep(self._home.engines / engine.name, engine)

    def _make_keepers(
        self, engines: list[Engine], tell: Callable[[str], None]
    ) -> dict[str, Keeper]:
        home, ledger = self._home, self._home.ledger()
        account = engine_account(home.engines)
        sockets = home.prepare(account, ledger)
        for path in (home.engines, sockets, *(engine.program for engine in engines)):
            let_pass(path, account, tell)
        secrets = home.secrets({engine.name: engine.secrets for engine in engines})
        senders = admitted(home.path, self._realm.namespace)
        keepers = {}
        for engine in engines:
            site = Site(
                folder=home.folder(engine.name, account),
                sockets=sockets,
                ports=ledger.ports.get(engine.name, {}),
                secrets=secrets[engine.name],
                account=account,
                realm=self._realm,
                senders=senders if engine.name == Nats.name else {},
            )
            keepers[engine.name] = Keeper(engine, site, ledger, tell)
        return keepers


def rotate(home: Path) -> None:
    """Have NATS, Valkey and S3 take new secrets at their next start, and forget every sender.

    Of a home that the caller holds, at rest.
    """
    Home(home).forget_secrets(ROTATED)
    (home / SENDERS_FILE).unlink(missing_ok=True)


def _ignore(_: str) -> None:
    """For who does not care."""
