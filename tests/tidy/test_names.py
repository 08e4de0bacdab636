"""One noun per idea, and a public face that is sorted, complete and small."""

from __future__ import annotations

import ast
import re

import polyplane
from tests.tidy.source import package

BANNED = {
    "common",
    "data",
    "handler",
    "helper",
    "info",
    "manager",
    "processor",
    "service",
    "util",
}
PUBLIC_NAMES_MAX = 30

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def _banned(name: str) -> set[str]:
    words = {word.lower() for word in WORD.findall(name)}
    return BANNED & (words | {word.removesuffix("s") for word in words})


def test_names_carry_no_empty_noun() -> None:
    modules = [(s.where, s.name) for s in package()]
    classes = [
        (f"{s.where}:{node.lineno}", node.name)
        for s in package()
        for node in ast.walk(s.tree)
        if isinstance(node, ast.ClassDef)
    ]
    offenders = [f"{where} {name}" for where, name in modules + classes if _banned(name)]
    assert offenders == []


def test_public_face_is_sorted_complete_and_small() -> None:
    face = next(s for s in package() if s.name == "polyplane.face")
    taken = {
        alias.asname or alias.name
        for node in ast.walk(face.tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("polyplane")
        for alias in node.names
    }
    face_names = polyplane.__all__
    assert face_names == sorted(taken)
    assert [name for name in face_names if not hasattr(polyplane, name)] == []
    assert len(face_names) <= PUBLIC_NAMES_MAX
