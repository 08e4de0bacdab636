"""What an engine must say of itself to be run: declarations, and three things to do."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from signal import SIGTERM, Signals
from typing import ClassVar

from polyplane.embedded.account import Account
from polyplane.embedded.senders import Admitted
from polyplane.errors import EngineMissing
from polyplane.security.realm import Realm

HOST = "127.0.0.1"


class NotReady(Exception):
    """The server does not serve yet; the text says why."""


@dataclass(frozen=True)
class Site:
    """Where one engine lives and what it is given; `realm` is all that a plane may touch in it."""

    folder: Path
    sockets: Path
    ports: Mapping[str, int]
    secrets: Mapping[str, str]
    account: Account | None
    realm: Realm = field(default_factory=Realm)
    senders: Mapping[str, Admitted] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Where the server's output goes."""
        return self.folder / "log"


class Engine(ABC):
    """One product that comes as a wheel. Raises EngineMissing if the wheel is not installed."""

    name: ClassVar[str]  # also of the extra that brings it
    distribution: ClassVar[str]
    program_name: ClassVar[str]
    tools: ClassVar[tuple[str, ...]] = ()  # programs that may run in its folder before the server
    ports: ClassVar[tuple[str, ...]]  # the first is the clients'
    secrets: ClassVar[tuple[str, ...]]
    stop_signals: ClassVar[Sequence[tuple[Signals, float]]] = ((SIGTERM, 10.0),)
    """What asks it to end, and for how many seconds; then the next, and at last SIGKILL."""
    start_timeout_s: ClassVar[float] = 30.0

    def __init__(self) -> None:
        self.program = self._locate()

    @abstractmethod
    def argv(self, site: Site) -> list[str | Path]:
        """The server's command line."""

    @abstractmethod
    def files(self, site: Site) -> dict[str, str]:
        """The configuration files to write in its folder, by name."""

    async def prepare(self, site: Site, *, clean: bool) -> None:  # noqa: B027 (few need it)
        """Make its folder fit for a start; `clean` says whether it was stopped in order.

        Raises EngineFailed.
        """

    async def broken(self, site: Site, what: str) -> str:
        """Deal with files that are not as the server left them; what was done, in words.

        Raises EngineFailed where it must not be started on them.
        """
        return "It goes on with what it finds."

    async def mended(self, site: Site, why: str) -> str:
        """Deal with files with which the server does not start; what was done, in words.

        Nothing: there is nothing to be done. Called once in a start.
        """
        return ""

    async def proven(self, site: Site, *, clean: bool) -> None:  # noqa: B027 (few need it)
        """Look at what the server holds, now that it serves. Raises EngineFailed when that is
        damaged, and must not be read.
        """

    async def lame(self, site: Site, log_start: int) -> str:
        """Why a server that runs must be started anew to serve again; nothing while it serves.

        Its lines in the log begin at `log_start`.
        """
        return ""

    @abstractmethod
    async def ready(self, site: Site) -> None:
        """Return once it serves a client that has the site's secrets.

        Raises NotReady, OSError or ValueError until then.
        """

    async def can_end_in_order(self, site: Site) -> bool:
        """Whether the first of `stop_signals` is worth a try."""
        return True

    @abstractmethod
    def url(self, site: Site) -> str:
        """Where the plane finds it, secrets included."""

    def logins(self, site: Site) -> dict[str, str]:
        """The same for other logins of few rights, by what they are for."""
        return {}

    def admin(self, site: Site) -> str:
        """The same for who may do everything: people and tests, nothing of the plane's."""
        return ""

    def litter(self, site: Site) -> list[Path]:
        """What the server may leave outside its folder when it ends."""
        return []

    def fingerprint(self, site: Site) -> str:
        """A digest of all that a running server depends on."""
        parts = [[str(arg) for arg in self.argv(site)], self.files(site)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _locate(self) -> Path:
        # The wheel's own list of files, without importing it: that may have side effects.
        try:
            listing = files(self.distribution) or []
        except PackageNotFoundError:
            raise EngineMissing(self.name, self.name) from None
        for file in listing:
            if file.name == self.program_name and (path := Path(str(file.locate()))).is_file():
                return path.resolve()
        raise EngineMissing(self.name, self.name)
