"""A disk that is full loses no point, and gives no wrong answer."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.ground import small_disk

ROOT = Path(__file__).parents[2]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """160 MB of memory."""
    if why := small_disk(tmp_path / "disk", 160):
        pytest.skip(f"NO SMALL DISK CAN BE MOUNTED HERE, FULL DISKS ARE NOT TESTED: {why}")
    yield tmp_path / "disk"
    subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=True, timeout=10)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["compact", "wide"])
@pytest.mark.parametrize("rounds", [3, pytest.param(60, marks=pytest.mark.long)])
def test_points_outlive_a_full_disk(disk: Path, kind: str, rounds: int) -> None:
    """chdb itself ends merges without room with empty files, and puts them in place of points."""
    seed = int(os.environ.get("FULL_SEED", random.randrange(1 << 30)))
    print(f"FULL_SEED={seed}")
    words = [str(disk), str(seed), str(rounds), kind]
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.full_series", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=590,
    )
    print(done.stderr[-3000:])
    assert done.returncode == 0
    report = json.loads(done.stdout.splitlines()[-1])
    print(report)
    assert report["found"] == report["taken"]
    assert report["wrong"] == 0
    assert report["waited"] > 0
    assert report["damage"] == []
