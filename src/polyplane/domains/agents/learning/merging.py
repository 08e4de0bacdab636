"""What learning some files changes, given what is known: the plan of differences. Pure.

A concept is there as long as a file mentions it; it is what the file that tells most says. A
relation is there as long as a file shows it, as strong as it is often shown in all of them. Both
are functions of the files alone: in which order, and in how many runs they came, is no matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID

from polyplane.domains.agents.learning.findings import (
    CATEGORIES,
    MENTIONED,
    Findings,
    View,
    concept_id,
    discussion_id,
    relation_id,
    strength_of,
)

_RANK: Final = {category: number for number, category in enumerate(CATEGORIES)}


class LearnedFile(NamedTuple):
    """A file as it is now. `found` is None when it is gone."""

    path: str
    digest: str = ""
    found: Findings | None = None


class Concept(NamedTuple):
    """A row of concepts."""

    id: UUID
    name: str
    category: str
    summary: str | None
    source: str
    mentions: int


class Relation(NamedTuple):
    """A row of concept_relations."""

    id: UUID
    source_id: UUID
    target_id: UUID
    type: str
    mentions: int

    @property
    def strength(self) -> float:
        """How strong it is."""
        return strength_of(self.type, self.mentions)


class Appearance(NamedTuple):
    """A row of concept_appearances."""

    concept_id: UUID
    discussion_id: UUID
    mentions: int
    view: View


class FileRow(NamedTuple):
    """What is noted of a file: the relations it shows, and how often. Its discussion has its title
    and path.
    """

    id: UUID
    path: str
    title: str
    digest: str
    relations: Mapping[UUID, int]


@dataclass(frozen=True, slots=True)
class Before:
    """What is known of the files at hand: their rows, and what appears in them."""

    files: Mapping[UUID, FileRow]
    appearances: Mapping[tuple[UUID, UUID], Appearance]


@dataclass(frozen=True, slots=True)
class Around:
    """What is known, from all files, of what these files concern. `views` are what concepts are in
    other files: of those where they are not only mentioned.
    """

    concepts: Mapping[UUID, Concept]
    relations: Mapping[UUID, Relation]
    views: Mapping[UUID, Iterable[tuple[UUID, View]]]


@dataclass(frozen=True, slots=True)
class After:
    """What is true of the files at hand when they are learned."""

    files: Mapping[UUID, FileRow]
    appearances: Mapping[tuple[UUID, UUID], Appearance]
    concepts: Mapping[UUID, Concept]
    """By name and source; counts and views are those of `appearances`."""
    relations: Mapping[UUID, Relation]
    """By ends and type; counts are those of `files`."""


@dataclass(slots=True)
class Plan:
    """What to write, and nothing else."""

    files: list[FileRow] = field(default_factory=list)
    discussions: list[FileRow] = field(default_factory=list)
    concepts: list[Concept] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    appearances: list[Appearance] = field(default_factory=list)
    lost_files: list[UUID] = field(default_factory=list)
    lost_concepts: list[UUID] = field(default_factory=list)
    lost_relations: list[UUID] = field(default_factory=list)
    lost_appearances: list[tuple[UUID, UUID]] = field(default_factory=list)
    new_concepts: int = 0
    new_relations: int = 0


def after(tenant: str, files: Iterable[LearnedFile]) -> After:
    """What is true of `files` once they are learned, under the ids of the tenant."""
    rows: dict[UUID, FileRow] = {}
    appearances: dict[tuple[UUID, UUID], Appearance] = {}
    concepts: dict[UUID, Concept] = {}
    relations: dict[UUID, Relation] = {}
    for file in files:
        found = file.found
        if found is None:
            continue
        here = discussion_id(tenant, file.path)
        ids = {name: concept_id(tenant, found.family, name) for name in found.views}
        for name, view in found.views.items():
            known = ids[name]
            appearances[known, here] = Appearance(known, here, found.mentions[name], view)
            concepts[known] = Concept(known, name, MENTIONED, None, found.family, 0)
        shown: dict[UUID, int] = {}
        for (source, target, kind), times in found.relations.items():
            ends = ids[source], ids[target]
            relation = Relation(relation_id(*ends, kind), *ends, kind, 0)
            relations[relation.id] = relation
            shown[relation.id] = times
        rows[here] = FileRow(here, file.path, found.title, file.digest, shown)
    return After(rows, appearances, concepts, relations)


def concerned(before: Before, now: After) -> tuple[set[UUID], set[UUID]]:
    """The ids of the concepts and of the relations that must be looked at: those of which these
    files say something else than they did.
    """
    pairs = before.appearances.keys() | now.appearances.keys()
    concepts = {
        pair[0] for pair in pairs if before.appearances.get(pair) != now.appearances.get(pair)
    }
    relations: set[UUID] = set()
    for file in before.files.keys() | now.files.keys():
        was, will_be = _shown(before.files.get(file)), _shown(now.files.get(file))
        relations |= {it for it, _ in was.items() ^ will_be.items()}
    return concepts, relations


def plan(before: Before, now: After, around: Around) -> Plan:
    """How to come from what is known to what is true. `around` has what is `concerned`."""
    made = Plan()
    for file, row in now.files.items():
        was = before.files.get(file)
        if row != was:
            made.files.append(row)
        if was is None or (was.title, was.path) != (row.title, row.path):
            made.discussions.append(row)
    made.lost_files = sorted(before.files.keys() - now.files.keys())
    for pair, appearance in now.appearances.items():
        if before.appearances.get(pair) != appearance:
            made.appearances.append(appearance)
    made.lost_appearances = sorted(before.appearances.keys() - now.appearances.keys())
    concepts, relations = concerned(before, now)
    _plan_concepts(made, sorted(concepts), before, now, around)
    _plan_relations(made, sorted(relations), before, now, around)
    return made


def _plan_concepts(
    made: Plan, concepts: Iterable[UUID], before: Before, now: After, around: Around
) -> None:
    changes: dict[UUID, int] = defaultdict(int)
    views: dict[UUID, list[tuple[UUID, View]]] = defaultdict(list)
    for (concept, _), it in before.appearances.items():
        changes[concept] -= it.mentions
    for (concept, file), it in now.appearances.items():
        changes[concept] += it.mentions
        views[concept].append((file, it.view))
    for concept in concepts:
        was = around.concepts.get(concept)
        mentions = max(0, (was.mentions if was else 0) + changes[concept])
        if not mentions:
            if was is not None:
                made.lost_concepts.append(concept)
            continue
        base = now.concepts.get(concept) or was
        if base is None:  # somebody has deleted it meanwhile
            continue
        best = best_view([*around.views.get(concept, ()), *views[concept]])
        will_be = base._replace(
            category=best.category or MENTIONED, summary=best.summary, mentions=mentions
        )
        if will_be != was:
            made.concepts.append(will_be)
            made.new_concepts += was is None


def _plan_relations(
    made: Plan, relations: Iterable[UUID], before: Before, now: After, around: Around
) -> None:
    changes: dict[UUID, int] = defaultdict(int)
    for files, sign in ((before.files, -1), (now.files, 1)):
        for row in files.values():
            for relation, times in row.relations.items():
                changes[relation] += sign * times
    lost = set(made.lost_concepts)
    for relation in relations:
        was = around.relations.get(relation)
        base = now.relations.get(relation) or was
        if base is None:
            continue
        mentions = max(0, (was.mentions if was else 0) + changes[relation])
        if not mentions or base.source_id in lost or base.target_id in lost:
            if was is not None:
                made.lost_relations.append(relation)
            continue
        will_be = base._replace(mentions=mentions)
        if will_be != was:
            made.relations.append(will_be)
            made.new_relations += was is None


def best_view(views: Iterable[tuple[UUID, View]]) -> View:
    """What a concept is, of what it is in several files: what tells most, and always the same."""
    told = [(file, view) for file, view in views if view.category is not None]
    if not told:
        return View()
    return min(told, key=_order)[1]


def _order(told: tuple[UUID, View]) -> tuple[int, bool, UUID]:
    file, view = told
    return _RANK.get(view.category or "", len(_RANK)), view.summary is None, file


def _shown(file: FileRow | None) -> Mapping[UUID, int]:
    return {} if file is None else file.relations
