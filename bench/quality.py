"""How good search is: judged questions, asked through the plane by meaning, by words and by both.

The standard library's own words are always there; `--cranfield FOLDER` adds that collection. What
is told of `hybrid` is of the half of the questions that nothing was tuned by, and of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Final

from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from bench.figures import Figure
from bench.ground import Ground, Size
from bench.retrieval import cranfield, stdlib
from bench.retrieval.judged import (
    Judged,
    Query,
    interval,
    known,
    ndcg,
    read_queries,
    recall,
    reciprocal_rank,
)
from polyplane.model.found import Mode
from polyplane.model.fusion import fused
from polyplane.runtime.searching import FUSED

MODES: Final[tuple[Mode, ...]] = ("vector", "text", "hybrid")
MEASURES: Final[Mapping[str, Callable[[Query, Sequence[str]], float]]] = {
    "nDCG@10": ndcg,
    "recall@10": lambda query, keys: recall(query, keys, 10),
    "recall@100": lambda query, keys: recall(query, keys, 100),
    "MRR": reciprocal_rank,
}
QUERIES: Final = Path(stdlib.__file__).parent / "stdlib_queries.txt"
DEPTH: Final = FUSED
"""Of each answer; as many as are fused."""
PAGE: Final = 500
TIMEOUT_S: Final = 300.0


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Passage(Base):
    """What may be found."""

    __tablename__ = "passage"
    id: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[str]


class PassageSearch(pp.Vectors[Passage]):
    """Passages by meaning and by words."""

    full_text = "english"

    def derive(self, passage: Passage, /) -> pp.Vector | None:
        """All of it."""
        return pp.Vector(passage.body)


@dataclass(frozen=True, slots=True)
class Asked:
    """One query and what was found, in each mode and by reciprocal ranks of k = 60 untuned."""

    query: Query
    keys: Mapping[str, Sequence[str]]


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Once: the same passages and queries give the same answers."""
    figures: list[Figure] = []
    for judged in sets(size.cranfield):
        asked = await ask(ground, judged, size.scaled(len(judged.queries)))
        figures.append(Figure(f"{judged.name}: passages", "passages", (len(judged.passages),)))
        for half, some in (("all", asked), ("held out", [it for it in asked if _is_held(it)])):
            if not some:  # of a quick one
                continue
            figures += _figures(f"{judged.name}, {half}", some)
        for kind in sorted({it.query.kind for it in asked}) if judged.name == "stdlib" else ():
            some = [it for it in asked if it.query.kind == kind]
            figures += _by_mode(f"stdlib, {kind}", some, ["nDCG@10"])
    return figures


def sets(folder: Path | None) -> list[Judged]:
    """The sets there are."""
    passages = stdlib.passages()
    found = [Judged("stdlib", passages, known(read_queries(QUERIES), passages))]
    if folder is not None:
        found.append(cranfield.read(folder))
    return found


async def ask(ground: Ground, judged: Judged, most: int) -> list[Asked]:
    """The first `most` queries, in every mode, of a plane that holds the passages."""
    found = []
    declared: dict[str, Any] = {"models": [Passage], "projections": [PassageSearch]}
    async with ground.plane(await ground.database(), **declared) as plane:
        every = list(judged.passages.items())
        for start in range(0, len(every), PAGE):
            async with plane.write(actor="bench") as tx:
                for name, text in every[start : start + PAGE]:
                    tx.add(Passage(id=name, body=text))
        await plane.settled(tx.token, timeout_s=TIMEOUT_S)
        assert (await plane.verify()).clean
        for query in judged.queries[:most]:
            keys: dict[str, Sequence[str]] = {}
            for mode in MODES:
                answer = await plane[PassageSearch].find(query.text, mode=mode, limit=DEPTH)
                assert not answer.degraded, answer.degraded
                keys[mode] = [hit.key for hit in answer.hits]
            parts = {mode: keys[mode] for mode in ("vector", "text")}
            keys["plain RRF"] = [it.key for it in fused(parts, 60, {})]
            found.append(Asked(query, keys))
    return found


def _is_held(asked: Asked) -> bool:
    return asked.query.is_held_out


def _figures(what: str, asked: Sequence[Asked]) -> list[Figure]:
    """Every measure of every mode; and what hybrid is better by, which must not be below 0."""
    found = [Figure(f"{what}: queries", "queries", (len(asked),))]
    found += _by_mode(what, asked, list(MEASURES))
    for other in ("vector", "text", "plain RRF"):
        over = [ndcg(it.query, it.keys["hybrid"]) - ndcg(it.query, it.keys[other]) for it in asked]
        required = 0.0 if other in MODES else None
        told = f"{what}: nDCG@10 of hybrid above {other}"
        low, high = interval(over)
        found += [
            Figure(told, "nDCG", (mean(over),), required),
            Figure(f"{told}, at least (95 %)", "nDCG", (low,)),
            Figure(f"{told}, at most (95 %)", "nDCG", (high,)),
        ]
    return found


def _by_mode(what: str, asked: Sequence[Asked], measures: Sequence[str]) -> list[Figure]:
    return [
        Figure(
            f"{what}: {measure} of {mode}",
            measure,
            (mean(MEASURES[measure](it.query, it.keys[mode]) for it in asked),),
        )
        for measure in measures
        for mode in (*MODES, "plain RRF")
    ]
