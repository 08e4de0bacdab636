"""Chunks by difference: what is the same stays, whatever moves around it."""

from __future__ import annotations

from uuid import UUID, uuid4

from hypothesis import given, strategies as st

from polyplane.domains.assistant.differences import (
    Held,
    New,
    Place,
    chunks_of,
    differences,
    digest_of,
    metadata_of,
    storable,
    summary_of,
)
from polyplane.domains.assistant.parsing.parsed import Chunk, Parsed

TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12)


def new(texts: list[str]) -> list[New]:
    """Chunks one behind the other."""
    places = [Place(n, n, n + 1, "", None, "t", "text/plain") for n in range(len(texts))]
    return [New(digest_of(it), it, place) for it, place in zip(texts, places, strict=True)]


@given(TEXTS, TEXTS)
def test_what_is_done_gives_what_is_wanted(before: list[str], after: list[str]) -> None:
    """Rows used once, none embedded anew that could be kept, none left over."""
    rows = {uuid4(): it for it in new(before)}
    made = differences([Held(id, it.digest, it.place) for id, it in rows.items()], new(after))
    texts: dict[UUID, tuple[int, str]] = {
        id: (it.place.ordinal, it.text) for id, it in rows.items() if id not in made.gone
    }
    for id, place in made.moved:
        texts[id] = (place.ordinal, texts[id][1])
    for it in made.new:
        texts[uuid4()] = (it.place.ordinal, it.text)
    assert [text for _, text in sorted(texts.values())] == after
    kept = sum(min(before.count(it), after.count(it)) for it in set(before))
    assert len(made.new) == len(after) - kept and len(made.gone) == len(before) - kept
    assert made.same + len(made.moved) == kept


def test_another_title_moves_and_embeds_nothing() -> None:
    parsed = Parsed(
        "text/plain", "x", {}, 2, (Chunk(0, 0, 1, "a", ("One", "Two")), Chunk(1, 1, 2, "b"))
    )
    before = [Held(uuid4(), it.digest, it.place) for it in chunks_of(parsed, "old")]
    made = differences(before, chunks_of(parsed, "new"))
    assert (len(made.moved), made.new, made.gone, made.same) == (2, [], [], 0)
    assert made.moved[0][1].heading == "One > Two"


def test_what_cannot_be_kept_is_replaced_in_its_place() -> None:
    assert storable("a\0b\ud800c") == "a\ufffdb\ufffdc"
    odd = Parsed("text/plain", "x", {"a\0": ["\0", 1, {"b": "\ud800"}], "d": {1, 2}}, 0, ())
    found = metadata_of(odd)
    assert found["a\ufffd"] == ["\ufffd", 1, {"b": "\ufffd"}] and isinstance(found["d"], str)


def test_a_summary_repeats_no_overlap() -> None:
    chunks = (Chunk(0, 0, 4, "abcd"), Chunk(1, 2, 6, "cdef"), Chunk(2, 6, 8, "gh"))
    assert summary_of(Parsed("text/plain", "x", {}, 8, chunks)) == "abcdefgh"
