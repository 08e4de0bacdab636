"""Imports stand at the top, no module is dead, and what is imported is declared."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions

from packaging.utils import canonicalize_name

from tests.tidy.source import Source, declared, imports, package

# Loading an engine or a command only when it is used is what these are for.
LAZY = ("src/polyplane/stores/catalog.py", "src/polyplane/__main__.py", "src/polyplane/serve/cli")

# Imported by people, by Python or by Alembic, not by us.
ROOTS = (
    "polyplane",
    "polyplane.__main__",
    "polyplane.graph",
    "polyplane.testing",
    "polyplane.domains.assistant.verifying",
)


def test_own_rooms_are_imported_at_the_top() -> None:
    hidden = [
        f"{source.where}:{line} {name}"
        for source in package()
        if not source.where.startswith(LAZY)
        for function in source.functions()
        for name, line in imports(source, function)
        if name.split(".")[0] == "polyplane"
    ]
    assert hidden == []


def _loads(source: Source) -> Iterator[str]:
    """What `source` imports, or names in a string for the catalog to import."""
    for name, _ in imports(source, source.tree):
        yield name
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.partition(":")[0]


def test_no_module_is_dead() -> None:
    sources = {source.name: source for source in package()}
    waiting = {s.name for s in package() if s.is_migration or s.name in ROOTS}
    waiting |= {name for name in sources if name.startswith("polyplane.testing.")}
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        reached.add(name)
        parents = {name.rpartition(".")[0]} if "." in name else set()
        waiting |= ({*_loads(sources[name]), *parents} & sources.keys()) - reached
    assert sorted(sources.keys() - reached) == []


def test_what_is_imported_is_declared() -> None:
    owners = packages_distributions()
    undeclared = {
        f"{source.where}:{line} {top}"
        for source in package()
        for name, line in imports(source, source.tree)
        if (top := name.split(".")[0]) not in sys.stdlib_module_names
        and not declared() & {canonicalize_name(owner) for owner in owners.get(top, [top])}
        and top != "polyplane"
    }
    assert sorted(undeclared) == []
