"""What `polyplane search --app assistant` shows of a hit."""

from __future__ import annotations

from typing import Any

from polyplane.serve.cli.search import marked


def test_what_was_asked_for_is_bold_and_nothing_is_markup() -> None:
    text = "Before. A [red]kettle[/red]\nthat \\ leaks. After it."
    start = text.index("A ")
    hit: dict[str, Any] = {
        "text": text,
        "excerpt": [start, text.index(" After")],
        "highlights": [[text.index("kettle"), text.index("kettle") + 6], [0, 6]],
    }
    shown = marked(hit)
    assert shown.plain == "A [red]kettle[/red] that \\ leaks."
    assert [shown.plain[it.start : it.end] for it in shown.spans] == ["kettle"]
