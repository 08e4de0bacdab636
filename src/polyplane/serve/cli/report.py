"""How a command ends: one envelope for programs; a few lines and the next step for people."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Annotated, Any, Final, Self

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from polyplane.errors import PolyplaneError
from polyplane.security.redaction import Redactor

INTERRUPTED: Final = 130

Json = Annotated[bool, typer.Option("--json", help="Print one JSON envelope instead of text.")]
Home = Annotated[
    Path | None,
    typer.Option(help="Folder of the embedded engines (default: the setting `home`)."),
]


class Report:
    """The outcome of one command, used as a context::

        with Report("verify", as_json) as report:
            report.data = {...}
            report.show(table)
            report.next = "polyplane status"

    On leaving, it prints the envelope `{status, command, duration_ms, data}` or the `Next:` line.
    A `PolyplaneError` becomes one red line with its fix, and the error's exit code.
    """

    def __init__(self, command: str, as_json: bool) -> None:
        self.command = command
        self.as_json = as_json
        self.status = "ok"
        self.exit_code = 0
        self.data: dict[str, Any] = {}
        self.next = ""
        self.if_interrupted = ""
        self.redactor = Redactor()  # an error may quote what an engine said
        self._started = perf_counter()
        self._is_told = False

    @property
    def console(self) -> Console:
        """Where people read. With `--json` it is standard error, so that stdout stays JSON."""
        return Console(stderr=self.as_json, highlight=False)

    def show(self, *things: RenderableType) -> None:
        """Print for people; nothing with `--json`. A string is shown as it is, without markup."""
        if not self.as_json:
            for thing in things:
                self.console.print(Text(thing) if isinstance(thing, str) else thing)

    @contextmanager
    def waiting(self, doing: str) -> Iterator[None]:
        """Show that something takes a while, when somebody watches."""
        if self.as_json or not sys.stdout.isatty():
            yield
            return
        with self.console.status(f"{doing} ..."):
            yield

    def tell(self) -> None:
        """Print the envelope or the `Next:` line now; leaving the context does it otherwise."""
        self._is_told = True
        if self.as_json:
            envelope = {
                "status": self.status,
                "command": self.command,
                "duration_ms": round((perf_counter() - self._started) * 1e3),
                "data": self.data,
            }
            sys.stdout.write(json.dumps(envelope, default=str) + "\n")
            sys.stdout.flush()
        elif self.next and self.status == "ok":
            line = Text.assemble(("Next: ", "bold"), self.next)
            self.console.print(line, soft_wrap=True)  # to be copied, whatever the width

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, PolyplaneError):
            message, fix = map(self.redactor.text, (error.message, error.fix))
            self._fail(error.exit_code, type(error).__name__, message, fix)
        elif isinstance(error, KeyboardInterrupt):
            line = "Interrupted; nothing was left running."
            self._fail(INTERRUPTED, "Interrupted", line, self.if_interrupted)
        elif isinstance(error, Exception) and not isinstance(error, typer.Exit | typer.Abort):
            if self.as_json:
                self._envelope_of(type(error).__name__, "This should not have happened.", "")
            return  # a defect of ours: the trace says more than we could
        elif error is not None:
            return
        if not self._is_told:
            self.tell()
        if self.exit_code:
            raise typer.Exit(self.exit_code) from None

    def _fail(self, exit_code: int, kind: str, message: str, fix: str) -> None:
        self.exit_code = exit_code
        self._envelope_of(kind, message, fix)
        if not self.as_json:
            line = Text.assemble((message, "red"), " " if fix else "", fix)
            Console(stderr=True, highlight=False, soft_wrap=True).print(line)

    def _envelope_of(self, kind: str, message: str, fix: str) -> None:
        self.status = "error"
        self.data = {
            "error": re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower(),
            "message": message,
            "fix": fix,
        }
