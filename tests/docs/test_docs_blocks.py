"""Every Python block of the README and the docs runs, page by page, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
TIMEOUT_S = 100

# Blocks may await at the top level, as in the REPL of asyncio.
RUN = """
import ast, asyncio, inspect, sys
source = sys.stdin.read()
code = compile(source, sys.argv[1], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
import types
page = types.ModuleType("page")
sys.modules["page"] = page
result = eval(code, page.__dict__)
if inspect.iscoroutine(result):
    asyncio.run(result)
"""


def _blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def _sampled(pages: list[Path]) -> list[Any]:
    """All of them, of which each run has the first, which is the README, and every third."""
    return [
        pytest.param(page, id=page.name, marks=() if at % 3 == 0 else pytest.mark.long)
        for at, page in enumerate(pages)
    ]


@pytest.mark.parametrize("page", _sampled([page for page in PAGES if _blocks(page)]))
def test_the_blocks_of_a_page_run(page: Path, place: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("POLYPLANE_")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(page.relative_to(ROOT))],
        input="\n".join(_blocks(page)),
        text=True,
        capture_output=True,
        cwd=place,
        env=environ,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
