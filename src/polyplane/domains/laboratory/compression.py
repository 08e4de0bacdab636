"""What the shipped experiment teaches: rules over its measurements, each a true sentence. Pure.

A rule is a function that looks at all activities and says what it found, or None. It gives its
sentence a confidence (see `findings`); a sentence more likely wrong than right is not said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np

from polyplane.domains.laboratory.findings import (
    CONFIDENCE_MIN,
    Finding,
    Measured,
    correlation,
    figure,
    percent,
    precision,
    surely_more,
    surely_same,
)

Codecs: TypeAlias = Mapping[str, Mapping[int, Measured]]
"""Codec -> level -> what was measured, levels ascending."""

GAIN_MIN: Final = 0.01
"""A level that shrinks the output by less than this is not worth mentioning."""


def codecs_of(activities: Sequence[Measured]) -> Codecs:
    """The activities that compressed something, by codec and level."""
    found: dict[str, dict[int, Measured]] = {}
    for each in activities:
        codec, level = each.parameters.get("codec"), each.parameters.get("level")
        if isinstance(codec, str) and isinstance(level, int) and "ratio" in each.samples:
            found.setdefault(codec, {})[level] = each
    return {codec: dict(sorted(levels.items())) for codec, levels in sorted(found.items())}


def learned(activities: Sequence[Measured]) -> list[Finding]:
    """Everything the rules find in `activities`."""
    codecs = codecs_of(activities)
    found = [finding for rule in RULES for finding in rule(codecs)] if codecs else []
    return [finding for finding in found if finding.confidence > CONFIDENCE_MIN]


def smallest_output(codecs: Codecs) -> Iterator[Finding]:
    """Which codec packs most tightly, against the best of the next codec."""
    best = sorted((_best(levels) for levels in codecs.values()), key=_ratio, reverse=True)
    if len(best) > 1:
        first, second = best[:2]
        yield Finding(
            "smallest_output",
            "comparison",
            f"{first.name} packs most tightly: the output is {figure(_ratio(first))} times smaller"
            f" than the input, against {figure(_ratio(second))} for {second.name}, the next best.",
            surely_more(first.samples["ratio"], second.samples["ratio"]),
        )


def largest_output(codecs: Codecs) -> Iterator[Finding]:
    """Which setting leaves most."""
    ranked = sorted(_all(codecs), key=_ratio)
    if len(ranked) > 1:
        worst, runner_up, best = ranked[0], ranked[1], max(ranked, key=_ratio)
        yield Finding(
            "largest_output",
            "comparison",
            f"{worst.name} leaves the largest files: {percent(1 / _ratio(worst))} of the original"
            f" size, while {best.name} leaves {percent(1 / _ratio(best))}.",
            surely_more(runner_up.samples["ratio"], worst.samples["ratio"]),
        )


def fastest(codecs: Codecs) -> Iterator[Finding]:
    """Which setting compresses fastest, which slowest."""
    ranked = sorted(_all(codecs), key=lambda each: each.mean("throughput_mb_s"), reverse=True)
    if len(ranked) > 1:
        (quick, runner_up), slow = ranked[:2], ranked[-1]
        rates = [each.samples["throughput_mb_s"] for each in (quick, runner_up, slow)]
        yield Finding(
            "fastest",
            "comparison",
            f"{quick.name} compresses fastest: {figure(rates[0].mean())} MB/s,"
            f" {figure(rates[0].mean() / rates[-1].mean())} times as fast as {slow.name}, the"
            " slowest.",
            surely_more(rates[0], rates[1]),
        )


def fastest_back(codecs: Codecs) -> Iterator[Finding]:
    """Which codec's output is restored fastest, over all its levels."""
    rates = {
        codec: np.mean([each.samples["decompress_mb_s"] for each in levels.values()], axis=0)
        for codec, levels in codecs.items()
    }
    ranked = sorted(rates, key=lambda codec: float(rates[codec].mean()), reverse=True)
    if len(ranked) > 1:
        first, second = ranked[:2]
        yield Finding(
            "fastest_back",
            "comparison",
            f"What {first} packed is restored fastest: {figure(rates[first].mean())} MB/s,"
            f" {figure(rates[first].mean() / rates[second].mean())} times as fast as with"
            f" {second}, the next.",
            surely_more(rates[first], rates[second]),
        )


def knees(codecs: Codecs) -> Iterator[Finding]:
    """Per codec: the level beyond which no further level pays."""
    for codec, levels in codecs.items():
        (lowest, _), (top_level, top) = _ends(levels)
        enough = [n for n, each in levels.items() if _ratio(top) / _ratio(each) - 1 < GAIN_MIN]
        if not enough or enough[0] in (lowest, top_level):
            continue
        knee = levels[enough[0]]
        growth = top.mean("cpu_ms") / knee.mean("cpu_ms")
        yield Finding(
            f"knee:{codec}",
            "process",
            f"Beyond level {enough[0]} there is little left to gain with {codec}: going on to level"
            f" {top_level} shrinks the output by {percent(1 - _ratio(knee) / _ratio(top))} only,"
            f" but needs {figure(growth)} times the CPU time.",
            min(
                surely_same(
                    top.samples["ratio"], knee.samples["ratio"], within=GAIN_MIN * _ratio(top)
                ),
                surely_more(top.samples["cpu_ms"], knee.samples["cpu_ms"]),
            ),
        )


def idle_levels(codecs: Codecs) -> Iterator[Finding]:
    """Per codec: whether its level changes the size of the output at all."""
    for codec, levels in codecs.items():
        (_, first), (_, last) = _ends(levels)
        if len(levels) > 1 and abs(_ratio(last) / _ratio(first) - 1) < GAIN_MIN:
            yield Finding(
                f"idle_levels:{codec}",
                "process",
                f"The level of {codec} makes no difference on blocks this small: all"
                f" {len(levels)} levels give the same ratio, {figure(_ratio(first))}.",
                surely_same(
                    last.samples["ratio"], first.samples["ratio"], within=GAIN_MIN * _ratio(first)
                ),
            )


def price_of_levels(codecs: Codecs) -> Iterator[Finding]:
    """Per codec: what the highest level costs and brings, against the lowest."""
    for codec, levels in codecs.items():
        (low, first), (high, last) = _ends(levels)
        growth = last.mean("cpu_ms") / first.mean("cpu_ms")
        if growth > 1 + GAIN_MIN and _ratio(last) > _ratio(first) * (1 + GAIN_MIN):
            yield Finding(
                f"price_of_levels:{codec}",
                "process",
                f"From level {low} to level {high}, {codec} needs {figure(growth)} times the CPU"
                f" time per block and makes the output {percent(1 - _ratio(first) / _ratio(last))}"
                " smaller.",
                surely_more(last.samples["cpu_ms"], first.samples["cpu_ms"]),
            )


def lavish(codecs: Codecs) -> Iterator[Finding]:
    """The setting with the highest CPU time, against one that is cheaper and no worse."""
    ranked = sorted(_all(codecs), key=lambda each: each.mean("cpu_ms"))
    dearest = ranked[-1]
    better = [each for each in ranked[:-1] if _ratio(each) >= _ratio(dearest)]
    if better:
        cheap = better[0]
        factor = dearest.mean("cpu_ms") / cheap.mean("cpu_ms")
        yield Finding(
            "lavish",
            "comparison",
            f"{dearest.name} never pays on this material: {cheap.name} packs at least as tightly"
            f" ({figure(_ratio(cheap))} against {figure(_ratio(dearest))}) with {figure(factor)}"
            " times less CPU time.",
            min(
                surely_more(dearest.samples["cpu_ms"], cheap.samples["cpu_ms"]),
                surely_more(cheap.samples["ratio"], dearest.samples["ratio"]),
            ),
        )


def asymmetry(codecs: Codecs) -> Iterator[Finding]:
    """Per codec, at its best ratio: how much faster the way back is."""
    for codec, levels in codecs.items():
        each = _best(levels)
        forth, back = each.samples["throughput_mb_s"], each.samples["decompress_mb_s"]
        yield Finding(
            f"asymmetry:{codec}",
            "process",
            f"Restoring the output of {each.name} is {figure(back.mean() / forth.mean())} times"
            f" faster than producing it: {figure(back.mean())} MB/s against"
            f" {figure(forth.mean())}.",
            surely_more(back, forth),
        )


def memory(codecs: Codecs) -> Iterator[Finding]:
    """Between which settings resident memory lies."""
    ranked = sorted(_all(codecs), key=lambda each: each.mean("rss_mb"))
    low, high = ranked[0], ranked[-1]
    if high is not low:
        yield Finding(
            "memory",
            "equipment",
            f"Resident memory lies between {figure(low.mean('rss_mb'))} MB with {low.name} and"
            f" {figure(high.mean('rss_mb'))} MB with {high.name}.",
            surely_more(high.samples["rss_mb"], low.samples["rss_mb"]),
        )


def uneven_blocks(codecs: Codecs) -> Iterator[Finding]:
    """How much the blocks of the material differ."""
    each = max(_all(codecs), key=_ratio)
    ratios = each.samples["ratio"]
    best, worst = int(np.argmax(ratios)), int(np.argmin(ratios))
    yield Finding(
        "uneven_blocks",
        "material",
        f"The material is uneven: under {each.name} block {best} shrinks {figure(ratios[best])}"
        f" times, block {worst} only {figure(ratios[worst])} times; the coefficient of variation"
        f" over {len(ratios)} blocks is {percent(ratios.std(ddof=1) / ratios.mean())}.",
        precision(ratios),
    )


def kindred_codecs(codecs: Codecs) -> Iterator[Finding]:
    """Whether what is hard for one codec is hard for the others."""
    best = {codec: _best(levels).samples["ratio"] for codec, levels in codecs.items()}
    names = list(best)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            if len(best[one]) != len(best[other]):
                continue
            r, confidence = correlation(best[one], best[other])
            yield Finding(
                f"kindred:{one}:{other}",
                "material",
                f"A block that is hard for {one} is hard for {other} as well: the ratios of the"
                f" {len(best[one])} blocks correlate with r = {r:.3f}.",
                confidence,
            )


Rule: TypeAlias = Callable[[Codecs], Iterator[Finding]]

RULES: Final[tuple[Rule, ...]] = (
    smallest_output,
    largest_output,
    fastest,
    fastest_back,
    knees,
    idle_levels,
    price_of_levels,
    lavish,
    asymmetry,
    memory,
    uneven_blocks,
    kindred_codecs,
)


def _all(codecs: Codecs) -> list[Measured]:
    return [each for levels in codecs.values() for each in levels.values()]


def _ends(levels: Mapping[int, Measured]) -> tuple[tuple[int, Measured], tuple[int, Measured]]:
    """The lowest and the highest level."""
    low, high = min(levels), max(levels)
    return (low, levels[low]), (high, levels[high])


def _best(levels: Mapping[int, Measured]) -> Measured:
    """The level that packs most tightly; of equals the lowest."""
    return max(levels.values(), key=_ratio)


def _ratio(each: Measured) -> float:
    """The mean ratio; sums in another order differ in the last digits only."""
    return round(each.mean("ratio"), 9)
