"""What files were like, noted, and what is seen of damage to them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from polyplane.embedded import seal as servers
from polyplane.stores.seal import Seal
from polyplane.stores.series.clickhouse_custody import Part, may_have_expired, missing, part_of

SUFFIXES = (".lance",)


@pytest.fixture
def seal(tmp_path: Path) -> Seal:
    """Of a folder with two files that matter and one that does not."""
    folder = tmp_path / "store"
    (folder / "t").mkdir(parents=True)
    (folder / "t" / "a.lance").write_bytes(b"a" * 1000)
    (folder / "t" / "b.lance").write_bytes(b"b" * 1000)
    (folder / "t" / "c.lock").write_bytes(b"")
    found = Seal.read(folder, tmp_path / "seal.json", SUFFIXES)
    assert (found.known, found.clean) == ({}, False)
    found.extend()
    return found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(bytes(content))


def test_what_is_whole_is_not_broken(seal: Seal) -> None:
    seal.write(clean=True)
    found = Seal.read(seal.folder, seal.path, SUFFIXES)
    assert found.clean and found.broken() == {}
    assert sorted(found.known) == ["t/a.lance", "t/b.lance"]


def test_a_flipped_bit_is_seen_and_so_is_a_shorter_file(seal: Seal) -> None:
    flip(seal.folder / "t" / "a.lance")
    os.truncate(seal.folder / "t" / "b.lance", 10)
    assert seal.broken() == {
        "t/a.lance": "has another content, not the 1,000 bytes that were written",
        "t/b.lance": "has 10 bytes, not the 1,000 bytes that were written",
    }


def test_what_is_gone_is_missed_after_a_clean_end_only(seal: Seal) -> None:
    (seal.folder / "t" / "a.lance").unlink()
    assert seal.broken() == {}
    seal.clean = True
    assert seal.broken() == {"t/a.lance": "is gone"}
    seal.extend()
    assert seal.broken() == {}


def test_what_is_not_durable_yet_is_not_known(seal: Seal) -> None:
    path = seal.folder / "t" / "new.lance"
    path.write_bytes(b"new")
    before = path.stat().st_mtime_ns
    seal.extend(before)
    assert "t/new.lance" not in seal.known
    seal.extend(before + 1)
    assert "t/new.lance" in seal.known


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format":9}'])
def test_a_damaged_seal_knows_nothing(seal: Seal, content: bytes) -> None:
    seal.path.write_bytes(content)
    found = Seal.read(seal.folder, seal.path, SUFFIXES)
    assert (found.known, found.clean) == ({}, False)


def test_the_files_of_a_server_are_sealed_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    (folder / "data").mkdir(parents=True)
    for name in ("one", "two", "log", "x.conf"):
        (folder / "data" / name).write_text(name)
    servers.note(folder)
    assert servers.broken(folder) == []
    (folder / "data" / "log").write_text("more of it")
    assert servers.broken(folder) == []
    (folder / "data" / "one").write_text("")
    assert servers.broken(folder) == ["data/one has 0 bytes, not 3"]
    servers.take_off(folder)
    assert servers.broken(folder) == []


def test_a_copy_is_not_damage_but_one_changed_file_is() -> None:
    noted = {"a": (1, 10), "b": (1, 10)}
    assert servers.compared(noted, {"a": (1, 99), "b": (1, 99), "new": (5, 5)}) == []
    assert servers.compared(noted, {"a": (1, 99), "b": (1, 10)}) == ["a was changed"]
    assert servers.compared(noted, {"a": (1, 10)}) == ["b is gone"]
    assert servers.told([str(n) for n in range(7)]) == "0; 1; 2; 3; 4; and 2 more"


def test_a_merged_part_covers_what_it_was_merged_from() -> None:
    one = part_of("heat", "202601_1_1_0", 10)
    two = part_of("heat", "202601_2_2_0", 10)
    both = part_of("heat", "202601_1_2_1", 20)
    other = part_of("heat", "202602_1_2_1", 20)
    assert one and two and both and other
    assert missing([one, two], [both]) == []
    assert missing([one, two], [one, other]) == [two]
    assert missing([both], [one, two]) == []  # it was broken, and went: see clickhouse_room
    assert missing([both], [one]) == [both]
    assert part_of("heat", "202601_1_2_1_7", 1) == Part("heat", "202601", 1, 2, 1)
    assert part_of("heat", "broken-on-start_202601_1_1_0", 1) is None


def test_what_retention_may_have_taken_is_not_missed() -> None:
    part = Part("heat", "202601", 1, 1, 10)
    now = datetime(2026, 2, 15, tzinfo=UTC)
    assert may_have_expired(part, 30, now)
    assert not may_have_expired(part, 60, now)
    assert not may_have_expired(part, None, now)
