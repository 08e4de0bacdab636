"""The project's own files, parsed once: what the tidiness tests look at."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file: `name` is its dotted module name, `where` its path below the root."""

    name: str
    where: str
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.where.endswith("/__init__.py")

    @property
    def is_migration(self) -> bool:
        return "/migrations/" in self.where

    def functions(self) -> Iterator[FunctionNode]:
        """Every function of the file, at any depth."""
        return (n for n in ast.walk(self.tree) if isinstance(n, FunctionNode))


@cache
def package() -> tuple[Source, ...]:
    """The files of `src`."""
    return tuple(_read(path, SRC) for path in sorted(SRC.rglob("*.py")))


@cache
def suite() -> tuple[Source, ...]:
    """The files of `tests` and `bench`."""
    paths = [path for room in ("tests", "bench") for path in sorted((ROOT / room).rglob("*.py"))]
    return tuple(_read(path, ROOT) for path in paths)


@cache
def declared() -> frozenset[str]:
    """The distributions that pyproject.toml asks for, extras included; not the project itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = chain(project["dependencies"], *project["optional-dependencies"].values())
    names = {canonicalize_name(Requirement(line).name) for line in lines}
    return frozenset(names - {project["name"]})


@cache
def kept_files() -> tuple[Path, ...]:
    """Every file that git tracks, or would with the next `git add`."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    return tuple(p for p in (ROOT / name for name in listing.split("\0") if name) if p.is_file())


def imports(source: Source, node: ast.AST) -> Iterator[tuple[str, int]]:
    """The dotted names (and lines) that the import statements in `node` may load.

    `from a import b` gives `a` and `a.b`, since `b` may be a module.
    """
    for statement in ast.walk(node):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield alias.name, statement.lineno
        elif isinstance(statement, ast.ImportFrom):
            base = _absolute(source, statement)
            yield base, statement.lineno
            for alias in statement.names:
                yield f"{base}.{alias.name}", statement.lineno


def _absolute(source: Source, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    parts = source.name.split(".")
    up = statement.level - (1 if source.is_package else 0)
    return ".".join([*parts[: len(parts) - up], *filter(None, [statement.module])])


def _read(path: Path, base: Path) -> Source:
    parts = path.relative_to(base).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    return Source(name, str(path.relative_to(ROOT)), text, ast.parse(text))
