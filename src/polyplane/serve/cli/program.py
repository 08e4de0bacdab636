"""The program `polyplane`: its table of commands. Each module is loaded when its command runs,
so that `polyplane --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from polyplane.model.application import Application

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("polyplane.serve.cli.init:init", "Write polyplane.toml and make the home folder."),
    "up": ("polyplane.serve.cli.up:up", "Run the engines, the flows and the API until stopped."),
    "worker": ("polyplane.serve.cli.worker:worker", "Help a running up to project."),
    "status": ("polyplane.serve.cli.status:status", "Show what runs, and how far behind it is."),
    "demo": ("polyplane.serve.cli.demo:demo", "Run a real experiment through every store."),
    "controller": (
        "polyplane.serve.cli.controller:controller",
        "Carry out the laboratory's work orders on this machine.",
    ),
    "agents": ("polyplane.serve.cli.agents:app", "What agents can do, are at, and know."),
    "ingest": (
        "polyplane.serve.cli.ingest:ingest",
        "Take in files and folders as documents, and wait until they can be found.",
    ),
    "users": ("polyplane.serve.cli.users:app", "Add, list, disable people; give them roles."),
    "api-keys": ("polyplane.serve.cli.api_keys:app", "Make, list and revoke API keys."),
    "migrate": ("polyplane.serve.cli.migrate:app", "Bring the tables of truth up or down."),
    "verify": ("polyplane.serve.cli.verify:verify", "Prove that every store agrees with truth."),
    "repair": ("polyplane.serve.cli.repair:repair", "Mend what verify finds, and nothing else."),
    "rebuild": (
        "polyplane.serve.cli.rebuild:rebuild",
        "Build a projection anew beside the one that is read.",
    ),
    "projections": ("polyplane.serve.cli.projections:app", "List and refill projections."),
    "search": (
        "polyplane.serve.cli.search:search",
        "Find concepts, or pieces of documents.",
    ),
    "graph": ("polyplane.serve.cli.graph:app", "Ask the graph: neighbours, ways, patterns."),
    "sagas": ("polyplane.serve.cli.sagas:app", "List, show, cancel and retry sagas."),
    "transform": (
        "polyplane.serve.cli.transform:app",
        "Make rows of one model into rows of another.",
    ),
    "blobs": ("polyplane.serve.cli.blobs:app", "Put, get, list, share and delete files."),
    "keys": (
        "polyplane.serve.cli.keys:app",
        "List, rotate and destroy the keys of secrets.",
    ),
    "credentials": (
        "polyplane.serve.cli.credentials:app",
        "Show, make and renew what engines are come to with.",
    ),
    "audit": ("polyplane.serve.cli.audit:app", "Search, prove and hand out who did what."),
    "maintain": ("polyplane.serve.cli.maintain:app", "Count and empty what may be emptied."),
    "backup": ("polyplane.serve.cli.backup:app", "Copy a home, check a copy, put one back."),
    "adopt": ("polyplane.serve.cli.adopt:adopt", "Project the tables of an existing database."),
}
"""Command -> where it is, and its line in `polyplane --help`."""


@dataclass(frozen=True, slots=True)
class Program:
    """What the command line runs: application packages and the modules of their demos, by name,
    and `module:function`s; `ingest` is a module.
    """

    applications: Mapping[str, str]
    demo: Mapping[str, str]
    controller: str
    learn: str = ""
    ingest: str = ""

    def load_applications(self) -> list[Application]:
        """The applications themselves: what each package exports as `application`."""
        return [load(f"{package}:application") for package in self.applications.values()]


def run(program: Program) -> None:
    """Run the command that `sys.argv` names; exits with its code."""
    app = typer.Typer(
        cls=_Commands,
        help="The data plane of AI applications: one truth, many engines, and the proof that "
        "they agree.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(_root)
    get_command(app)(obj=program, prog_name="polyplane")


def load(path: str) -> Any:
    """The object at `module:name`, or a whole module."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name) if name else import_module(module)


def _root(
    wants_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True)
    ] = False,
) -> None:
    """The program itself does nothing without a command."""
    if wants_version:
        typer.echo(version("polyplane"))
        raise typer.Exit


class _Commands(TyperGroup):
    """The table above as commands; only the one that is asked for is imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        self.commands = dict.fromkeys(COMMANDS, TyperCommand(""))  # for its suggestions
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and command_of(name or ""), rest


def command_of(name: str) -> Any:
    """The real command `name` of the table."""
    found = load(COMMANDS[name][0])
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False)
        found.command(name)(function)
    return get_command(found)
