"""The graph contract notices an adapter that is broken on purpose, in the way it is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from polyplane.model.collection import Collection
from polyplane.model.items import Stamp
from polyplane.stores.graph import (
    ladybug_answers as answers,
    ladybug_cypher,
    ladybug_scan,
    ladybug_tables as tables,
    ladybug_writing as writing,
)
from polyplane.stores.graph.cypher_text import quoted
from polyplane.stores.graph.ladybug_graph import LadybugStore
from polyplane.stores.graph.ladybug_lane import Writer
from polyplane.stores.graph.ladybug_reading import LadybugReading
from polyplane.testing.samples import ALL
from tests.contract import test_graph_ladybug as ladybug
from tests.contract.graph_mutants import (
    ANY_STORE,
    DROP,
    NOTICED,
    SCOPE,
    WALKS,
    Breakage,
    Mutants,
    Patch,
    run,
)
from tests.contract.sampling import sampled

# Broken inside of the Ladybug adapter


def _gate(passes: Callable[[int | None, int], bool]) -> Breakage:
    """What gives way to what is applied: (what is held at which position, the position)."""

    def break_it(patch: Patch) -> None:
        original = writing.apply

        def broken(writer: Any, of: Any, puts: Any, drops: Any, at: int, gate: Any = None) -> None:
            original(writer, of, puts, drops, at, gate or (lambda held: passes(held, at)))

        patch.setattr(writing, "apply", broken)

    return break_it


def _afterwards(then: Callable[[Writer, Collection, list[str]], None]) -> Breakage:
    """Something that is done when keys have been dropped."""

    def break_it(patch: Patch) -> None:
        original = writing.apply

        def broken(writer: Any, of: Any, puts: Any, drops: Any, at: int, gate: Any = None) -> None:
            original(writer, of, puts, drops, at, gate)
            if drops:
                then(writer, of, list(drops))

        patch.setattr(writing, "apply", broken)

    return break_it


def _deleted_for_good(writer: Writer, collection: Collection, keys: list[str]) -> None:
    label = tables.ledger(collection) if collection.ends else collection.labelled
    empty = "_source" if collection.ends else "id"
    with writer.logged():
        writer.run(
            f"UNWIND $keys AS k MATCH (n:{quoted(label)} {{`_key`: k}})"
            f" WHERE n.`{empty}` IS NULL DETACH DELETE n",
            keys=keys,
        )


def _edges_gone_with_their_nodes(writer: Writer, collection: Collection, keys: list[str]) -> None:
    if collection.label == "Person":
        with writer.logged():
            for way in ("-[r:KNOWS]->", "<-[r:KNOWS]-"):
                writer.run(
                    f"UNWIND $keys AS k MATCH (n:Person {{`_key`: k}}){way}(:Person) DELETE r",
                    keys=keys,
                )


def _visible(names: str, change: Callable[..., str]) -> Breakage:
    """What must hold of what is seen, under some of the names it has in questions."""

    def break_it(patch: Patch) -> None:
        original = answers.visible

        def broken(bound: Any, name: str, *args: Any) -> str:
            return (change if name[0] in names else _asked)(original, bound, name, *args)

        patch.setattr(answers, "visible", broken)

    return break_it


def _asked(original: Callable[..., str], *args: Any) -> str:
    return original(*args)


def _even_dead(original: Callable[..., str], bound: Any, name: str, *args: Any) -> str:
    return original(bound, name, *args).replace(f"{name}.`id` IS NOT NULL", "true")


def _of_anybody(
    original: Callable[..., str], bound: Any, name: str, of: Any, _scope: Any, *where: Any
) -> str:
    return original(bound, name, of, ALL, *where)


def _stubs_with_id(patch: Patch) -> None:
    original = tables.stub_rows
    patch.setattr(
        tables, "stub_rows", lambda keys: original(keys).append_column("id", tables.texts(keys))
    )


def _stubs_told_of(patch: Patch) -> None:
    patch.setattr(ladybug_scan, "_STUB", "false")


def _no_stubs(patch: Patch) -> None:
    patch.setattr(writing, "_missing", lambda *_: {})


def _old_edges_left(patch: Patch) -> None:
    patch.setattr(writing, "_unlink", lambda *_: None)


def _nothing_unlinked(patch: Patch) -> None:
    patch.setattr(writing, "unlink_all", lambda *_: None)


def _all_edges_between_unlinked(patch: Patch) -> None:
    def broken(writer: Writer, collection: Collection, old: Sequence[tuple[str, Any]]) -> None:
        for _, at in old:
            if at is not None:
                source, target = map(quoted, collection.ends)
                writer.run(
                    f"MATCH (a:{source} {{`_key`: $at}})-[r:{quoted(collection.labelled)}]->"
                    f"(:{target}) DELETE r",
                    at=at,
                )

    patch.setattr(writing, "_unlink", broken)


def _lost_properties_kept(patch: Patch) -> None:
    """Only what has a value is written over what is there."""
    original = writing._set

    def broken(writer: Writer, label: str, rows: Any) -> None:
        empty = [
            name
            for name in rows.column_names
            if name[0] != "_" and name != "id" and rows[name].null_count == rows.num_rows
        ]
        original(writer, label, rows.drop_columns(empty))

    patch.setattr(writing, "_set", broken)


def _dropped_edges_not_told_of(patch: Patch) -> None:
    patch.setattr(
        ladybug_scan,
        "_merged",
        lambda held, _beside: [Stamp(key, at or 0, digest or "") for key, at, digest in held],
    )


def _nobodys_not_told_of(patch: Patch) -> None:
    patch.setattr(ladybug_scan, "_nobodys", lambda *_: [])


def _zone_lost(patch: Patch) -> None:
    original = tables.properties

    def broken(*args: Any) -> dict[str, Any]:
        found = original(*args)
        return found | {"seen": found.get("seen") and found["seen"].replace(tzinfo=None)}

    patch.setattr(tables, "properties", broken)


def _quotes_not_escaped(patch: Patch) -> None:
    original = tables.Bound.value

    def broken(self: tables.Bound, value: Any) -> str:
        return f"'{value}'" if isinstance(value, str) else original(self, value)

    patch.setattr(tables.Bound, "value", broken)


def _ways_not_looked_up(patch: Patch) -> None:
    async def broken(*args: Any) -> Any:
        return args[-1]

    patch.setattr(LadybugReading, "_turned", broken)


def _cypher_for_anybody(patch: Patch) -> None:
    original = ladybug_cypher.checked
    patch.setattr(ladybug_cypher, "checked", lambda view, _, *args: original(view, ALL, *args))


def _cypher_without_limit(patch: Patch) -> None:
    original: Any = ladybug_cypher.asked
    patch.setattr(ladybug_cypher, "asked", lambda *args: original(*args[:-1], 9_999))


def _forgets_first(patch: Patch) -> None:
    original = LadybugStore.prepare

    async def broken(self: LadybugStore, collection: Collection) -> None:
        await self.forget(collection)
        await original(self, collection)

    patch.setattr(LadybugStore, "prepare", broken)


def _never_forgets(patch: Patch) -> None:
    async def broken(*_: Any) -> None:
        pass

    patch.setattr(LadybugStore, "forget", broken)


NEWER: Final = "test_the_newer_position_wins"
AGAIN: Final = "test_applying_again_changes_nothing"
WAITS: Final = "test_an_edge_waits_for_its_ends"
GOES: Final = "test_who_goes_takes_the_edges_out_of_sight_and_brings_them_back"
CHANGES: Final = "test_an_edge_may_change_its_ends_and_loses_what_it_had"
HAND: Final = "test_what_somebody_put_there_by_hand_is_told_of_and_buried"

LADYBUG: Mutants = {
    "no gate": (_gate(lambda _held, _at: True), NEWER),
    "equal passes": (_gate(lambda held, at: held is None or held <= at), AGAIN),
    "first come": (_gate(lambda held, _at: held is None), NEWER),
    "stubs never replaced": (_gate(lambda held, at: held is None or 0 < held < at), WAITS),
    "no tombstone": (_afterwards(_deleted_for_good), DROP),
    "edges gone with their nodes": (_afterwards(_edges_gone_with_their_nodes), GOES),
    "the dead found": (_visible("n", _even_dead), WAITS),
    "edges to the dead": (_visible("b", _even_dead), GOES),
    "edges from the dead": (_visible("a", _even_dead), GOES),
    "the dead in patterns": (_visible("s", _even_dead), WALKS),
    "nodes of anybody": (_visible("n", _of_anybody), SCOPE),
    "edges of anybody": (_visible("r", _of_anybody), SCOPE),
    "edges from anybody": (_visible("a", _of_anybody), SCOPE),
    "edges to anybody": (_visible("b", _of_anybody), SCOPE),
    "patterns of anybody": (_visible("s", _of_anybody), SCOPE),
    "stubs shown": (_stubs_with_id, WAITS),
    "stubs told of": (_stubs_told_of, WAITS),
    "no stubs": (_no_stubs, "test_a_put_is_stored_whole"),
    "old edges left": (_old_edges_left, CHANGES),
    "too many unlinked": (
        _all_edges_between_unlinked,
        "test_edges_between_the_same_nodes_are_several",
    ),
    "lost properties kept": (_lost_properties_kept, CHANGES),
    "tombstones with content": (_lost_properties_kept, DROP),
    "dropped edges not told of": (_dropped_edges_not_told_of, DROP),
    "nobody's not told of": (_nobodys_not_told_of, HAND),
    "what is strange left": (_nothing_unlinked, HAND),
    "zone lost": (_zone_lost, "test_a_put_is_stored_whole"),
    "quotes get out": (_quotes_not_escaped, "test_hostile_strings_are_only_strings"),
    "ways not looked up": (_ways_not_looked_up, WALKS),
    "cypher for anybody": (_cypher_for_anybody, "test_cypher_changes_nothing"),
    "cypher without limit": (_cypher_without_limit, "test_cypher_answers_with_our_words"),
    "prepared anew": (_forgets_first, "test_prepare_again_keeps_what_is_there"),
    "never forgotten": (_never_forgets, "test_a_forgotten_collection_is_gone"),
}

CASES = [(name, *mutant) for name, mutant in (ANY_STORE | LADYBUG).items()]


@pytest.mark.parametrize(("mutant", "break_it", "test"), sampled(CASES, [it[0] for it in CASES]))
async def test_the_contract_notices(
    mutant: str, break_it: Breakage, test: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    with monkeypatch.context() as patch:
        break_it(patch)
        with pytest.raises(NOTICED) as noticed:
            await run(ladybug.TestLadybug(), test, tmp_path)
    print(f"{mutant}: {noticed.value!r}"[:300])


@pytest.mark.parametrize(
    "test",
    [
        pytest.param(test, marks=() if test in (SCOPE, DROP) else pytest.mark.long)
        for test in sorted({test for _, _, test in CASES})
    ],
)
async def test_the_adapter_passes_the_same_tests(test: str, tmp_path: Path) -> None:
    await run(ladybug.TestLadybug(), test, tmp_path)
