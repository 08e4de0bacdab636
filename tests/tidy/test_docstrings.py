"""What is public says what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.tidy.source import FunctionNode, Source, package


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _is_repeated(function: FunctionNode) -> bool:
    """An `@overload` or a property's setter: documented where the name is first defined."""
    marks = (
        d.attr if isinstance(d, ast.Attribute) else getattr(d, "id", "")
        for d in function.decorator_list
    )
    return any(mark in {"overload", "setter", "deleter"} for mark in marks)


def _bases(node: ast.ClassDef) -> Iterator[str]:
    for base in node.bases:
        plain = base.value if isinstance(base, ast.Subscript) else base
        yield plain.attr if isinstance(plain, ast.Attribute) else getattr(plain, "id", "")


CLASSES = {n.name: n for s in package() for n in ast.walk(s.tree) if isinstance(n, ast.ClassDef)}


def _inherits_docstring(node: ast.ClassDef, method: str) -> bool:
    """Whether a base class of ours documents `method`; an adapter need not repeat its port."""
    for name in _bases(node):
        base = CLASSES.get(name)
        if base is None or base is node:
            continue
        documented = any(
            isinstance(f, FunctionNode) and f.name == method and ast.get_docstring(f)
            for f in base.body
        )
        if documented or _inherits_docstring(base, method):
            return True
    return False


def _silent_methods(source: Source, node: ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        if (
            isinstance(item, FunctionNode)
            and _is_public(item.name)
            and not item.name.startswith("test_")  # a contract's rule: its name is the sentence
            and not ast.get_docstring(item)
            and not _is_repeated(item)
            and not _inherits_docstring(node, item.name)
        ):
            yield f"{source.where}:{item.lineno} {node.name}.{item.name}"


def _silent(source: Source) -> Iterator[str]:
    if not ast.get_docstring(source.tree):
        yield source.where
    if source.is_migration:  # `upgrade` and `downgrade` say enough
        return
    for node in source.tree.body:
        if not isinstance(node, FunctionNode | ast.ClassDef) or not _is_public(node.name):
            continue
        repeated = isinstance(node, FunctionNode) and _is_repeated(node)
        if not ast.get_docstring(node) and not repeated:
            yield f"{source.where}:{node.lineno} {node.name}"
        if isinstance(node, ast.ClassDef):
            yield from _silent_methods(source, node)


def test_public_things_have_docstrings() -> None:
    assert [silent for source in package() for silent in _silent(source)] == []
