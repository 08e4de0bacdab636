"""The plan of differences: what is known follows from the files, whatever their order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from hypothesis import given, strategies as st

from polyplane.domains.agents.learning.findings import (
    Findings,
    View,
    concept_id,
    discussion_id,
    relation_id,
)
from polyplane.domains.agents.learning.merging import (
    Appearance,
    Around,
    Before,
    Concept,
    FileRow,
    LearnedFile,
    Plan,
    Relation,
    after,
    concerned,
    plan,
)

TENANT = "t"
NAMES = ["kettle", "lid", "steam", "water"]
KINDS = ["calls", "contains"]


@dataclass
class Truth:
    """The tables, in memory: does to them what a plan says, and nothing else."""

    files: dict[UUID, FileRow] = field(default_factory=dict)
    concepts: dict[UUID, Concept] = field(default_factory=dict)
    relations: dict[UUID, Relation] = field(default_factory=dict)
    appearances: dict[tuple[UUID, UUID], Appearance] = field(default_factory=dict)

    def learn(self, files: Sequence[LearnedFile]) -> Plan:
        """As `keeping.take` does."""
        ids = {discussion_id(TENANT, it.path) for it in files}
        before = Before(
            {id: row for id, row in self.files.items() if id in ids},
            {pair: it for pair, it in self.appearances.items() if pair[1] in ids},
        )
        now = after(TENANT, files)
        concepts, relations = concerned(before, now)
        views: dict[UUID, list[tuple[UUID, View]]] = defaultdict(list)
        for (concept, file), it in self.appearances.items():
            if concept in concepts and file not in ids and it.view.category is not None:
                views[concept].append((file, it.view))
        around = Around(
            {id: it for id, it in self.concepts.items() if id in concepts},
            {id: it for id, it in self.relations.items() if id in relations},
            views,
        )
        made = plan(before, now, around)
        self._write(made)
        return made

    def _write(self, made: Plan) -> None:
        for relation in made.lost_relations:
            del self.relations[relation]
        for pair in made.lost_appearances:
            del self.appearances[pair]
        for concept in made.lost_concepts:
            del self.concepts[concept]
        for file in made.lost_files:
            del self.files[file]
        self.concepts.update((it.id, it) for it in made.concepts)
        self.relations.update((it.id, it) for it in made.relations)
        self.appearances.update(((it.concept_id, it.discussion_id), it) for it in made.appearances)
        self.files.update((it.id, it) for it in made.files)
        self._check()

    def _check(self) -> None:
        """What the database would: nothing refers to what is not there."""
        for it in self.relations.values():
            assert {it.source_id, it.target_id} <= self.concepts.keys() and it.mentions > 0
        for concept, file in self.appearances:
            assert concept in self.concepts and file in self.files


@st.composite
def findings(draw: st.DrawFn) -> Findings:
    """What may be found in a file."""
    found = Findings(draw(st.sampled_from(["one", "two"])), "text")
    categories = st.sampled_from([None, "heading", "term"])
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        category = draw(categories)
        if category is None:
            found.mention(name, draw(st.integers(1, 3)))
        else:
            found.define(name, category, draw(st.sampled_from([None, "boils", "is shut"])))
    ends = st.sampled_from(NAMES)
    for source, target, kind in draw(st.lists(st.tuples(ends, ends, st.sampled_from(KINDS)))):
        found.relate(source, target, kind)
    return found


Folder = Mapping[str, Findings]
folders = st.dictionaries(st.sampled_from(["/a", "/b", "/c"]), findings())


def files_of(was: Folder, folder: Folder) -> list[LearnedFile]:
    """What a run tells, that finds `folder` after `was`."""
    there = [LearnedFile(path, str(found), found) for path, found in folder.items()]
    return there + [LearnedFile(path) for path in was if path not in folder]


@given(st.lists(folders, min_size=1, max_size=4), st.data())
def test_history_does_not_matter(history: list[Folder], data: st.DataObject) -> None:
    lived, was = Truth(), dict[str, Findings]()
    for folder in history:
        for part in data.draw(_parted(files_of(was, folder))):
            lived.learn(part)
        was = dict(folder)
    fresh = Truth()
    fresh.learn(files_of({}, history[-1]))
    assert lived == fresh


@st.composite
def _parted(draw: st.DrawFn, files: list[LearnedFile]) -> list[list[LearnedFile]]:
    """The files in any order, in packs of any size."""
    order = draw(st.permutations(files))
    size = draw(st.integers(1, 3))
    return [list(order[start : start + size]) for start in range(0, len(order), size)]


@given(folders)
def test_what_is_known_is_what_the_files_say(folder: Folder) -> None:
    truth = Truth()
    truth.learn(files_of({}, folder))
    for name in NAMES:
        id = concept_id(TENANT, "text", name)
        mentions = sum(it.mentions.get(name, 0) for it in folder.values())
        assert (truth.concepts[id].mentions if id in truth.concepts else 0) == mentions
        if mentions:
            said = {it.views[name].category for it in folder.values() if name in it.views}
            best = next((it for it in ("heading", "term") if it in said), "name")
            assert truth.concepts[id].category == best
        for other in NAMES:
            for kind in KINDS:
                known = relation_id(id, concept_id(TENANT, "text", other), kind)
                times = sum(it.relations.get((name, other, kind), 0) for it in folder.values())
                found = truth.relations.get(known)
                assert (found.mentions if found else 0) == times


@given(folders)
def test_the_same_again_changes_nothing(folder: Folder) -> None:
    truth = Truth()
    truth.learn(files_of({}, folder))
    assert truth.learn(files_of(folder, folder)) == Plan()


@given(folders, findings())
def test_one_file_touches_only_its_own(folder: Folder, changed: Findings) -> None:
    truth, path = Truth(), "/b"
    truth.learn(files_of({}, folder))
    was = folder.get(path, Findings("", "text"))
    made = truth.learn([LearnedFile(path, "new", changed)])
    own = {concept_id(TENANT, "text", name) for name in (*was.views, *changed.views)}
    assert {it.id for it in made.concepts} | set(made.lost_concepts) <= own
    assert all(it.source_id in own and it.target_id in own for it in made.relations)


@given(folders)
def test_without_files_nothing_is_known(folder: Folder) -> None:
    truth = Truth()
    truth.learn(files_of({}, folder))
    truth.learn(files_of(folder, {}))
    assert truth == Truth()


def test_tenants_and_languages_have_their_own() -> None:
    assert len({concept_id(t, f, "json") for t in ("a", "b") for f in ("python", "text")}) == 4
