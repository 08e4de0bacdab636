"""Nothing in the repository depends on one machine, and every test can fail."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from packaging.utils import canonicalize_name

from tests.tidy.source import ROOT, Source, declared, imports, kept_files, suite

# Written so that this file does not match itself.
REGISTRY = (
    r"(?:pypi|pythonhosted|npmjs|maven|crates)[a-z0-9.-]*\.(?:org|io|com)|"
    r"\b(?:extra-)?index-(?:url)\b|\bfind-(?:links)\b"
)
MACHINE = r"(?<![\w.])/(?:work|root|farm|tmp/v|home/\w+|Users/\w+)/"


def _forbidden() -> re.Pattern[str]:
    patterns = [REGISTRY, MACHINE]
    if len(ROOT.parts) > 2:  # a checkout right below / has a name too common to look for
        patterns.append(rf"(?<![\w.]){re.escape(str(ROOT))}(?![\w.])")
    return re.compile("|".join(patterns))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:  # a binary file
        return
    yield from enumerate(text.splitlines(), start=1)


def test_no_registry_and_no_path_of_a_machine() -> None:
    forbidden = _forbidden()
    offenders = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()}"
        for path in kept_files()
        for number, line in _lines(path)
        if forbidden.search(line)
    ]
    assert offenders == []


def test_constraints_pin_every_dependency_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    pinned = {canonicalize_name(pin.partition("==")[0]) for pin in pins}
    assert sorted(declared() - pinned) == []


def _can_fail(source: Source) -> bool:
    """Whether it asserts, expects an error, or runs a contract that `polyplane.testing` ships."""
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(source.tree))
    inherits = any(name.startswith("polyplane.testing") for name, _ in imports(source, source.tree))
    return asserts or inherits or "pytest.raises(" in source.text


def test_every_test_file_can_fail() -> None:
    files = [s for s in suite() if Path(s.where).name.startswith("test_")]
    assert len(files) > 1
    assert [source.where for source in files if not _can_fail(source)] == []
