"""The folder of the demo: what documentation and licences there are on this machine, copied, and
the standard library's docstrings written out, so that it can be changed.
"""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TEXTS_BYTES_MAX: Final = 9 << 20
"""Of what is copied in all, so that a machine full of documentation is ingested in time."""
TEXT_BYTES_MAX: Final = 400_000
_LEFT_OUT: Final = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo"}
)
_ENDINGS: Final = (".md", ".rst", ".txt")
_NAMES: Final = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "README", "CHANGES", "CHANGELOG")
_ALSO: Final = (Path("/usr/share/common-licenses"), Path("/usr/share/doc"))
_FUNCTION_MIN: Final = 160
"""Characters from which on the docstring of a function is a document of its own."""

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def fill(folder: Path) -> int:
    """Write the documents below `folder`, the same at each run; how many they are. What is as it
    should be is left alone.
    """
    count = 0
    for name, text in (*_docstrings(), *_topics()):
        _write(folder / "python" / name, text.encode(errors="replace"))
        count += 1
    size = 0
    for path in _texts():
        bytes_ = path.stat().st_size
        if size + bytes_ > TEXTS_BYTES_MAX:
            break
        _write(folder / "texts" / path.relative_to(path.anchor), path.read_bytes())
        size += bytes_
        count += 1
    return count


def _write(path: Path, content: bytes) -> None:
    try:
        if path.read_bytes() == content:
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _docstrings() -> Iterator[tuple[str, str]]:
    """Name and text of documents of what the standard library says of itself: one for a module with
    its functions, one for each class with its methods, and one for each function with much to say.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if _LEFT_OUT & set(parts) or "__pycache__" in parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        except (OSError, SyntaxError, ValueError):
            continue
        module = ".".join(it for it in parts if it != "__init__")
        yield from _of_module(module, tree)


def _topics() -> Iterator[tuple[str, str]]:
    """The chapters of the language's reference that come with its interactive help."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return
    for name, text in sorted(topics.items()):
        yield f"topics/{name}.rst", text


def _of_module(module: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    own, short = ast.get_docstring(tree), []
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            if text := _of_class(f"{module}.{node.name}", node):
                yield f"{module}/{node.name}.md", text
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            said = ast.get_docstring(node) or ""
            title = f"{module}.{node.name}"
            if len(said) >= _FUNCTION_MIN:
                yield f"{module}/{node.name}.md", f"# {title}\n\n{_call(node)}\n\n{said}\n"
            elif said:
                short.append(f"## {title}\n\n{_call(node)}\n\n{said}")
    if own or short:
        yield f"{module}/index.md", "\n\n".join([f"# {module}", own or "", *short]) + "\n"


def _of_class(title: str, node: ast.ClassDef) -> str:
    said = [f"## {title}.{it.name}\n\n{_call(it)}\n\n{text}" for it, text in _methods(node)]
    own = ast.get_docstring(node)
    return "\n\n".join([f"# {title}", own or "", *said]) + "\n" if own or said else ""


def _methods(node: ast.ClassDef) -> Iterator[tuple[Definition, str]]:
    for it in node.body:
        if isinstance(it, Definition) and (text := ast.get_docstring(it)):
            yield it, text


def _call(node: Definition) -> str:
    if isinstance(node, ast.ClassDef):
        return f"`class {node.name}`"
    return f"`{node.name}({ast.unparse(node.args)})`"


def _texts() -> Iterator[Path]:
    """Documentation and licences: of the installed packages first, of the system the long ones."""
    packages = Path(sysconfig.get_paths()["purelib"])
    yield from sorted(it for it in packages.rglob("*") if _is_text(it, packages))
    for root in _ALSO:
        found = [it for it in root.rglob("*") if _is_text(it, root)]
        yield from sorted(found, key=lambda it: (-it.stat().st_size, it))


def _is_text(path: Path, root: Path) -> bool:
    named = path.suffix.lower() in _ENDINGS or path.name.upper().startswith(_NAMES)
    if not (named or path.name == "copyright" or root.name == "common-licenses"):
        return False
    if path.suffix in (".py", ".pyc", ".gz") or path.is_symlink() or not path.is_file():
        return False
    try:
        return 0 < path.stat().st_size <= TEXT_BYTES_MAX
    except OSError:
        return False
