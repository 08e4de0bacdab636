"""How far long work is, for people who watch; nothing on a pipe or with `--json`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, Final

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from polyplane.errors import PolyplaneError
from polyplane.serve.cli.remote import Remote
from polyplane.serve.cli.report import Report

_LOOK_EVERY_S: Final = 0.3


class Watched:
    """One line that says how far it is; with a bar where it is known how much there is."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=None)

    def say(self, line: str) -> None:
        """Say it in words."""
        self._bar.update(self._task, description=line)

    def bytes(self, name: str, done: int, of: int) -> None:
        """Say how much of a file is there."""
        line = f"{name}: {done / 2**20:,.0f} of {of / 2**20:,.0f} MiB"
        self._bar.update(self._task, description=line, completed=done, total=max(of, done, 1))

    def count(self, name: str, done: int, of: int, unit: str) -> None:
        """Say how many are done."""
        line = f"{name}: {done:,} of {of:,} {unit}"
        self._bar.update(self._task, description=line, completed=done, total=max(of, done, 1))

    def far(self, name: str, done: int, about: int | None, unit: str) -> None:
        """Say how far one thing is, of several that come one after the other (see `Far`)."""
        of = f" of about {max(about, done):,}" if about else ""
        line = f"{name}: {done:,}{of} {unit} compared"
        total = None if about is None else max(about, done)
        self._bar.update(self._task, description=line, completed=done, total=total)


@contextmanager
def watched(report: Report) -> Iterator[Watched]:
    """The line, until the block ends."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    shown = not report.as_json and report.console.is_terminal
    with Progress(*columns, console=report.console, transient=True, disable=not shown) as bar:
        yield Watched(bar)


@contextmanager
def asking(ask: Callable[[], None]) -> Iterator[None]:
    """Call `ask`, which asks a running `up` something, now and then, until the block ends."""
    done = Event()

    def work() -> None:
        while not done.wait(_LOOK_EVERY_S):
            try:
                ask()
            except PolyplaneError:  # who waits for the answer itself is told
                continue

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def proofs_of(remote: Remote, bar: Watched) -> Callable[[], None]:
    """Ask a running `up` how far its latest verify is, and say it."""

    def ask() -> None:
        found: list[dict[str, Any]] = remote.get("verify")
        if found:
            bar.far(**found[-1])

    return ask
