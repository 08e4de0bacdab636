"""Folders are looked through, and files read as they were at one moment."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import polyplane as pp
from polyplane.domains.assistant import walking
from polyplane.domains.assistant.room import LIMITS
from polyplane.domains.assistant.walking import Found, Walk, read, stamp_of


def names(walk: Walk) -> list[str]:
    """What it finds, below its root."""
    return [it.path.relative_to(walk.root).as_posix() for it in walk.files()]


def test_only_what_matches_and_is_not_ignored(tmp_path: Path) -> None:
    for name in ("a.md", "b.txt", "sub/c.md", ".git/d.md", "node_modules/e.md", "sub/.f.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert names(Walk(tmp_path)) == ["a.md", "b.txt", "sub/c.md"]
    assert names(Walk(tmp_path, globs=["*.md"])) == ["a.md", "sub/c.md"]
    assert names(Walk(tmp_path, globs=["sub/*"])) == ["sub/c.md"]
    assert names(Walk(tmp_path, ignore=["sub"])) == [
        ".git/d.md",
        "a.md",
        "b.txt",
        "node_modules/e.md",
    ]
    assert [it.path.name for it in Walk(tmp_path / "a.md").files()] == ["a.md"]
    with pytest.raises(pp.NotFound):
        Walk(tmp_path / "none").files()


def test_a_stamp_tells_what_was_done_to_a_file(tmp_path: Path) -> None:
    """Also when its size and time of change are put back."""
    path = tmp_path / "a"
    path.write_text("one")
    known = path.stat()
    until_s = time.monotonic() + 10
    while path.stat().st_ctime_ns == known.st_ctime_ns:  # the disk's clock has ticked
        assert time.monotonic() < until_s
        path.write_text("two")
        os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert path.stat().st_mtime_ns == known.st_mtime_ns
    assert stamp_of(path.stat()) != stamp_of(known)


def test_a_file_that_is_written_to_meanwhile_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.txt"
    path.write_text("0")
    (found,) = Walk(tmp_path).files()
    reading, tries = walking._read, 0

    def grows(file: Path) -> tuple[bytes, os.stat_result, os.stat_result]:
        nonlocal tries
        content, before, after = reading(file)
        tries += 1
        if tries <= still:
            path.write_text("x" * (tries + 1))
            after = path.stat()
        return content, before, after

    monkeypatch.setattr(walking, "_read", grows)
    still = walking.TRIES
    arrival = read(found)
    assert (arrival.content, arrival.code) == (None, "changing")
    tries, still = 0, 1
    assert read(found).content == path.read_bytes()


def test_what_is_no_file_any_more_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    gone = read(Found(path, str(path), 0, ""))
    assert (gone.content, gone.code) == (None, "unreachable")
    gone = read(Found(tmp_path / "none", "none", 0, ""))
    assert gone.reason == "No such file or directory"
    large = read(Found(tmp_path / "large", "large", LIMITS.file_bytes + 1, ""))
    assert large.code == "too_large"


def test_a_fresh_file_has_no_stamp_that_could_be_trusted(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    (found,) = Walk(tmp_path).files()
    assert read(found).file_stamp is None


def test_a_name_of_any_bytes_can_be_told(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"odd\xff.md")).write_text("x")
    (found,) = Walk(tmp_path).files()
    assert found.name.endswith("odd\\xff.md") and found.name.encode()
