"""docs/cli.md knows every command and option, and shows only what the command line takes."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup

from polyplane import errors
from polyplane.serve.cli.program import COMMANDS, command_of, load

DOCS = Path(__file__).parents[2]
PAGE = (DOCS / "docs" / "cli.md").read_text(encoding="utf-8")
EVERYWHERE = {"--json", "--home", "--help"}


def _section(name: str) -> str:
    return PAGE.split(f"## polyplane {name}\n")[1].split("\n## ")[0]


def _leaves(name: str) -> Iterator[tuple[str, Any]]:
    """(words, command) of a command, or of each command of its group."""
    return _below(name, command_of(name))


def _below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(command, TyperGroup):
        for part, leaf in command.commands.items():
            yield from _below(f"{words} {part}", leaf)
    else:
        yield words, command


def _options(command: Any) -> set[str]:
    return {o for parameter in command.params for o in parameter.opts if o.startswith("--")}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_options_are_documented(name: str) -> None:
    section = _section(name)
    for words, command in _leaves(name):
        assert words.split()[-1] in section
        assert [o for o in _options(command) - EVERYWHERE if f"`{o}`" not in section] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_speaks_json_and_has_one_line_of_help(name: str) -> None:
    for _, command in _leaves(name):
        assert "--json" in _options(command)
        assert command.help
    found: Any = load(COMMANDS[name][0])
    if inspect.isfunction(found):
        assert (inspect.getdoc(found) or "").splitlines()[0] == COMMANDS[name][1]
    else:
        assert found.info.help == COMMANDS[name][1]


def _shown() -> list[str]:
    """Every `polyplane ...` line of a shell block in README and docs."""
    pages = [DOCS / "README.md", *sorted((DOCS / "docs").rglob("*.md"))]
    lines = []
    for page in pages:
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text(), re.DOTALL):
            lines += re.findall(r"^(?:\$ )?(polyplane [^#\n|&]*)", block, re.MULTILINE)
    return sorted(set(lines))


@pytest.mark.parametrize("line", _shown())
def test_a_command_that_is_shown_can_be_parsed(line: str) -> None:
    _, name, *rest = shlex.split(line)
    if name.startswith("--"):
        return
    command = command_of(name)
    while isinstance(command, TyperGroup) and rest:
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(name, rest, resilient_parsing=False)


def test_every_exit_code_is_documented() -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    classes = [c for c in vars(errors).values() if inspect.isclass(c)]
    ours = {c.exit_code for c in classes if issubclass(c, errors.PolyplaneError)}
    assert ours | {0, 130} == table
