"""Parts that are broken are set aside, however often one of their name was before."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyplane.errors import StoreDown
from polyplane.stores.series.clickhouse_room import set_aside

NAME = "202601_1_9_2"


def part(table: Path, content: str) -> Path:
    """A part's folder, with something in it."""
    folder = table / NAME
    folder.mkdir()
    (folder / "data.bin").write_text(content)
    return folder


def test_nothing_that_was_set_aside_is_lost(tmp_path: Path) -> None:
    aside = [set_aside(part(tmp_path, content)) for content in ("first", "second", "third")]
    assert [it.name for it in aside] == [f"broken_{NAME}{end}" for end in ("", "_try1", "_try2")]
    assert [(it / "data.bin").read_text() for it in aside] == ["first", "second", "third"]
    assert {it.parent for it in aside} == {tmp_path / "detached"}
    assert not (tmp_path / NAME).exists()


def test_there_is_an_end_to_it(tmp_path: Path) -> None:
    with pytest.raises(StoreDown, match="set aside 20 times"):
        for number in range(30):
            set_aside(part(tmp_path, str(number)))
    assert (tmp_path / NAME / "data.bin").read_text() == "20"  # it stays where it is
