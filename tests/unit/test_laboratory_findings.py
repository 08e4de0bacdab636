"""What the telemetry proves, and how surely."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, strategies as st

from polyplane.domains.laboratory.compression import learned
from polyplane.domains.laboratory.demo import QUESTIONS
from polyplane.domains.laboratory.findings import (
    CONFIDENCE_MAX,
    Finding,
    Measured,
    Point,
    correlation,
    figure,
    measured,
    percent,
    precision,
    rankings,
    surely_more,
    surely_same,
)
from polyplane.domains.laboratory.measurement import (
    BLOCK_METRICS,
    BLOCKS,
    LEVELS,
    PASSES,
    measure,
)
from polyplane.domains.laboratory.models import LEARNING_TYPES

numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
samples = st.lists(numbers, min_size=2, max_size=40).map(np.array)


@given(samples, st.floats(0.1, 100))
def test_confidences_are_probabilities(a: np.ndarray, within: float) -> None:
    b = a[::-1]
    for confidence in (
        surely_more(a, b),
        surely_same(a, b, within=within),
        precision(a),
        correlation(a, b)[1],
    ):
        assert 0 <= confidence <= CONFIDENCE_MAX


def test_more_data_and_larger_differences_are_surer() -> None:
    noise = np.random.default_rng(7).normal(0, 1, 400)
    steps = np.resize([0.9, -0.7], 400)  # a gain of 0.1 on average, hidden in a spread of 0.8
    few, many = noise[:20], noise
    assert 0.5 < surely_more(few + steps[:20], few) < surely_more(many + steps, many)
    assert surely_more(noise, noise + 3) < 0.01
    assert surely_more(noise + 0.01, np.roll(noise, 1)) < 0.7
    assert surely_more(noise, noise) == 0.5
    assert surely_same(noise, np.roll(noise, 1), within=1) == CONFIDENCE_MAX
    assert surely_same(noise, noise + 2, within=1) < 0.01
    assert precision(noise + 100) > precision(noise + 1)


def test_one_reading_proves_nothing() -> None:
    one = np.array([3.0])
    assert surely_more(one, one - 1) == 0.5
    assert precision(one) == 0
    assert correlation(one, one) == (0.0, 0.0)


def test_passes_over_a_block_count_once() -> None:
    points = [Point("a", "ratio", value, unit) for value, unit in [(1, 0), (3, 0), (5, 1)]]
    points += [Point("a", "heat", value) for value in (1.0, 2.0, 3.0)]
    (only,) = measured({"a": ("A", {})}, points)
    assert only.samples["ratio"].tolist() == [2, 5]
    assert only.samples["heat"].tolist() == [1, 2, 3]


REAL = """
import json
from polyplane.domains.laboratory.measurement import measure
print(json.dumps([
    (f"{codec}-{level}", metric, value, reading.block)
    for codec, level in [("zlib", 1), ("zlib", 9), ("bz2", 1), ("bz2", 9), ("lzma", 0)]
    for reading in measure(codec, level)
    for metric, value in reading.values.items()
]))
"""


def _real() -> list[Point]:
    """One real pass over the sample by a few settings, in a process whose memory is its own."""
    done = subprocess.run(
        [sys.executable, "-c", REAL], check=True, capture_output=True, text=True, timeout=60
    )
    return [Point(*values) for values in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def found() -> dict[str, Finding]:
    """What the rules find in real measurements."""
    points = _real()
    activities = {}
    for name in dict.fromkeys(point.activity_id for point in points):
        codec, level = name.split("-")
        activities[name] = (f"{codec} level {level}", {"codec": codec, "level": int(level)})
    return {each.rule: each for each in learned(measured(activities, points))}


def test_real_measurements_teach_at_least_ten_things(found: dict[str, Finding]) -> None:
    assert len(found) >= 10
    for finding in found.values():
        assert finding.type in LEARNING_TYPES
        assert 0.5 < finding.confidence <= CONFIDENCE_MAX
        assert any(c.isdigit() for c in finding.insight)


def test_what_is_certain_about_these_codecs_is_found(found: dict[str, Finding]) -> None:
    assert found["fastest"].insight.startswith("zlib level 1 compresses fastest")
    assert found["fastest_back"].insight.startswith("What zlib packed is restored fastest")
    assert found["largest_output"].insight.startswith("zlib level 1 leaves the largest files")
    assert found["smallest_output"].insight.startswith("bz2 level 1 packs most tightly")
    assert "all 2 levels give the same ratio" in found["idle_levels:bz2"].insight
    assert found["kindred:bz2:zlib"].confidence == CONFIDENCE_MAX


def test_the_demo_asks_without_a_keyword_of_the_answer(found: dict[str, Finding]) -> None:
    small = {"is", "an", "what", "does", "it", "in", "do"}
    asked = {r: question for question, rules in QUESTIONS.items() for r in rules if r in found}
    assert {"fastest_back", "memory"} <= asked.keys()
    for rule, question in asked.items():
        words = [
            set(re.findall(r"[a-z]+", text.lower())) for text in (question, found[rule].insight)
        ]
        assert words[0] & words[1] <= small


def test_nothing_is_said_of_nothing() -> None:
    assert learned([]) == []
    assert rankings([]) == []
    alone = Measured("a", {"codec": "zlib", "level": 1}, {"ratio": np.ones(3)})
    assert rankings([alone]) == []


def test_any_experiment_gets_its_rankings() -> None:
    hot = Measured("hot", {}, {"density": np.array([3.9, 3.8, 3.95])})
    cold = Measured("cold", {}, {"density": np.array([3.1, 3.2, 3.0])})
    (finding,) = rankings([cold, hot])
    assert finding.insight == (
        "Of 2 activities, hot has the highest mean density, 3.88, and cold the lowest, 3.10."
    )
    assert finding.confidence > 0.9


def test_each_level_of_each_codec_gives_every_block_back() -> None:
    for codec, levels in LEVELS.items():
        for level in (levels[0], levels[-1]):
            readings = list(itertools.islice(measure(codec, level), 2))
            assert all(reading.values["ratio"] > 1 for reading in readings)
    settings = sum(map(len, LEVELS.values()))
    assert settings >= 20
    assert settings * PASSES * BLOCKS * BLOCK_METRICS >= 20_000
    with pytest.raises(ValueError, match="no codec 'rar'"):
        next(measure("rar", 1))
    with pytest.raises(ValueError, match="level 10"):
        next(measure("zlib", 10))


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (3.14159, "3.14"), (0.00123456, "0.00123"), (12345.6, "12,346")]
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert figure(value) == text
    assert percent(0.0312) == "3.12 %"
