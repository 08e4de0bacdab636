"""The types of the public face catch mistakes, and nothing that is right."""

from __future__ import annotations

import re
from pathlib import Path

from mypy import api

MISTAKES = Path(__file__).parent / "mistakes.py"


def test_mypy_sees_exactly_the_mistakes() -> None:
    """Each marked line is an error of its kind; unmarked lines are none."""
    lines = MISTAKES.read_text(encoding="utf-8").splitlines()
    marked = ((n, re.search(r"# E: ([\w-]+)", line)) for n, line in enumerate(lines, start=1))
    expected = [(n, mark[1]) for n, mark in marked if mark]
    told, trouble, _ = api.run(["--strict", "--no-error-summary", str(MISTAKES)])
    errors = re.findall(r"mistakes\.py:(\d+): error: .*\[([\w-]+)\]", told)
    assert [(int(n), code) for n, code in errors] == expected, told + trouble
