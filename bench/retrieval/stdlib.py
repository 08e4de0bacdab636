"""Passages that every machine with Python has: what the standard library says of itself.

A passage is the name of a module, class, function or method and its docstring. The same Python
gives the same passages in the same order. Judgements name them by that name (`shutil.copytree`).
"""

from __future__ import annotations

import ast
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

SHORTEST: Final = 40
"""Docstrings of fewer characters say nothing that could be looked for."""
LONGEST: Final = 1_500
"""Characters of a docstring that count, cut at the end of a line: about what a chunk holds."""

_NAMES: Final = (
    "aifc antigravity asynchat asyncore audioop cgi cgitb chunk crypt distutils "
    "encodings ensurepip idlelib imghdr imp lib2to3 mailcap msilib nis nntplib "
    "ossaudiodev pipes pydoc_data site-packages smtpd sndhdr spwd sunau telnetlib "
    "test tests this tkinter turtle turtledemo uu xdrlib"
)
LEFT_OUT: Final = frozenset(_NAMES.split())
"""Modules that later Pythons do not have or that need what not every machine has; and tests."""

COMPILED: Final[dict[str, tuple[str, ...]]] = {
    "builtins": ("str", "list", "dict", "set", "int", "float", "range", "property"),
    "math": (),
    "cmath": (),
    "itertools": (),
    "time": (),
    "sys": (),
    "os": ("DirEntry",),
    "functools": (),
    "collections": ("deque", "defaultdict"),
    "bisect": (),
    "binascii": (),
    "zlib": (),
    "gc": (),
    "struct": (),
    "re": ("Pattern", "Match"),
    "datetime": ("datetime", "date", "timedelta"),
    "hashlib": (),
    "unicodedata": (),
    "contextvars": ("ContextVar",),
    "faulthandler": (),
    "signal": (),
    "socket": (),
    "sqlite3": ("Connection", "Cursor"),
    "atexit": (),
    "threading": (),
    "fcntl": (),
    "mmap": (),
}
"""Modules that are compiled, in whole or in part, with the classes whose methods are passages."""


def passages() -> dict[str, str]:
    """Name -> text of each passage. Where several say the very same, the first one stands."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for name, doc in (*_written(), *_compiled()):
        doc = inspect.cleandoc(doc)
        if len(doc) < SHORTEST or doc in seen or name in found:
            continue
        seen.add(doc)
        found[name] = f"{name}\n\n{_cut(doc)}"
    return found


def _cut(doc: str) -> str:
    if len(doc) <= LONGEST:
        return doc
    end = doc.rfind("\n", 0, LONGEST)
    return doc[: end if end > LONGEST // 2 else LONGEST]


def _written() -> Iterator[tuple[str, str]]:
    """(name, docstring) of what is written in Python. Nothing of it is imported."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for module in sorted(sys.stdlib_module_names - LEFT_OUT):
        if module.startswith("_"):
            continue
        single = library / f"{module}.py"
        files = [single] if single.is_file() else sorted((library / module).rglob("*.py"))
        for file in files:
            parts = file.relative_to(library).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            if LEFT_OUT.isdisjoint(parts) and not any(part.startswith("_") for part in parts):
                tree = ast.parse(file.read_text(encoding="utf-8"))
                yield from _within(tree, ".".join(parts))


def _within(node: ast.Module | ast.ClassDef, name: str) -> Iterator[tuple[str, str]]:
    """What a module or class says of itself, and what is public in it."""
    if doc := ast.get_docstring(node, clean=False):
        yield name, doc
    for it in node.body:
        if isinstance(it, ast.ClassDef) and not it.name.startswith("_"):
            yield from _within(it, f"{name}.{it.name}")
        elif (
            isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)
            and not it.name.startswith("_")
            and (doc := ast.get_docstring(it, clean=False))
        ):
            yield f"{name}.{it.name}", doc


def _compiled() -> Iterator[tuple[str, str]]:
    """(name, docstring) of what only an import shows."""
    for module_name, classes in COMPILED.items():
        module = import_module(module_name)
        for name, value in sorted(vars(module).items()):
            if name.startswith("_") or not _is_passage(value):
                continue
            yield f"{module_name}.{name}", value.__doc__ or ""
        for class_name in classes:
            for name, value in sorted(vars(getattr(module, class_name)).items()):
                if not name.startswith("_") and isinstance(value.__doc__, str):
                    yield f"{module_name}.{class_name}.{name}", value.__doc__


def _is_passage(value: Any) -> bool:
    if inspect.isclass(value):
        return not issubclass(value, BaseException) and isinstance(value.__doc__, str)
    return inspect.isbuiltin(value) and isinstance(value.__doc__, str)
