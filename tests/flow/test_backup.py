"""Backup of a home: stopped, copied, read back, put back, and proven."""

from __future__ import annotations

from pathlib import Path

import pytest

import polyplane as pp
from polyplane.errors import Conflict, HomeBusy, NotFound, Refused
from polyplane.ops import backup
from tests.flow.things import Thing, ThingSearch, by_hand


def plane_at(home: Path) -> pp.Plane:
    """A plane with engines of its own."""
    return pp.Plane(models=[Thing], projections=[ThingSearch], home=home)


async def check(plane: pp.Plane, items: int) -> None:
    """No drift, and so many items."""
    await plane.caught_up()
    drift = await plane.verify()
    assert drift.clean, drift.parts
    assert [part.items for part in drift.parts] == [items]


async def test_a_home_is_put_back(place: Path) -> None:
    """What was written after the copy is gone from every store, what was deleted is back."""
    home, folder = place / "home", place / "copy"
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))

    async with plane_at(home) as plane:
        rows = "INSERT INTO thing SELECT n, 'body ' || n FROM generate_series({}, {}) n"
        await by_hand(plane, rows.format(1, 30))
        await check(plane, 30)
        with pytest.raises(HomeBusy):
            async with backup.at_rest(home):
                pass
    async with backup.at_rest(home):
        made = backup.create(home, folder, progress)
        with pytest.raises(Conflict):
            backup.create(home, folder, progress)
        with pytest.raises(Refused, match="part of the home"):
            backup.create(home, home / "copy", progress)
    assert seen[-1] == (made.bytes, made.bytes)
    async with plane_at(home) as plane:
        await by_hand(plane, rows.format(31, 50))
        await by_hand(plane, "DELETE FROM thing WHERE id <= 5")
        await check(plane, 45)
        before = plane.opened.epoch
    assert backup.check(folder, progress) == made
    async with backup.at_rest(home):
        kept = backup.restore(folder, home, progress)
    assert kept is not None and (kept / "engines" / "postgres").is_dir()
    async with plane_at(home) as plane:
        assert plane.opened.epoch > before
        await check(plane, 30)
        await by_hand(plane, rows.format(60, 64))
        await check(plane, 35)


async def test_a_damaged_copy_is_refused(place: Path) -> None:
    """A bit that has turned, a file too few, a folder that is none of ours."""
    home, folder = place / "home", place / "copy"
    (home / "engines" / "some").mkdir(parents=True)
    data = home / "engines" / "some" / "data"
    data.write_bytes(b"x" * 3_000_000)
    backup.create(home, folder, lambda *_: None)
    copy = folder / "home" / "engines" / "some" / "data"
    copy.write_bytes(b"x" * 2_999_999 + b"y")
    with pytest.raises(Refused, match="not what was saved"):
        backup.check(folder, lambda *_: None)
    copy.unlink()
    with pytest.raises(Refused, match="missing"):
        backup.check(folder, lambda *_: None)
    with pytest.raises(NotFound):
        backup.check(home, lambda *_: None)


def test_keys_are_in_no_copy_and_outlive_a_restore(place: Path) -> None:
    home, folder = place / "home", place / "copy"
    (home / "engines" / "some").mkdir(parents=True)
    (home / "engines" / "some" / "keys.json").write_text("an engine's own")
    for name in ("keys.json", "keys.destroyed"):
        (home / name).write_text(name)
        (home / name).chmod(0o600)
    backup.create(home, folder, lambda *_: None)
    copy = folder / "home"
    assert [it.relative_to(copy) for it in copy.rglob("keys*")] == [Path("engines/some/keys.json")]
    backup.check(folder, lambda *_: None)
    (home / "keys.destroyed").write_text("more")
    backup.restore(folder, home, lambda *_: None)
    assert (home / "keys.json").read_text() == "keys.json"
    assert (home / "keys.destroyed").read_text() == "more"
    assert (home / "keys.json").stat().st_mode & 0o777 == 0o600
