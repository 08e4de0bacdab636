"""Chunks: they cover the text, keep its structure, and small edits change few of them."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import example, given, strategies as st

from polyplane.domains.assistant.parsing.chunking import chunks_of
from polyplane.domains.assistant.parsing.code import read_code
from polyplane.domains.assistant.parsing.extract import Draft, Extract, clean
from polyplane.domains.assistant.parsing.markdown import read_markdown
from polyplane.domains.assistant.parsing.parsed import Chunk, ChunkOptions
from polyplane.domains.assistant.parsing.plain import read_records, read_table, read_text

READERS = (read_markdown, read_text, read_code, read_records, read_table)
FLAG = "\U0001f1e9\U0001f1ea"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=400),
        st.sampled_from(
            ["# One\n", "## Two\n", "\n\n", "- a\n", "```\n", "    x = 1\n", "def f():\n", "===\n"]
        ),
        st.sampled_from(
            [FAMILY * 40, "e\u0301" * 99, "word " * 60, "句。" * 80, "\u0e01\u0e33" * 60]
        ),
    ),
    max_size=12,
).map("".join)
OPTIONS = st.tuples(st.integers(100, 300), st.integers(0, 50)).map(lambda it: ChunkOptions(*it))


def assert_whole(text: str, chunks: tuple[Chunk, ...], options: ChunkOptions) -> None:
    end = 0
    for ordinal, chunk in enumerate(chunks):
        assert chunk.ordinal == ordinal
        assert text[chunk.start : chunk.end] == chunk.text
        assert max(end - options.overlap, 0) <= chunk.start <= end < chunk.end
        assert len(chunk.text) <= options.size
        end = chunk.end
    assert end == len(text)


@given(TEXTS, OPTIONS, st.sampled_from(READERS))
@example("\U0001f468" + "\u200d\U0001f469" * 300, ChunkOptions(100, 0), read_text)
@example("\n" * 1_000, ChunkOptions(100, 50), read_markdown)
@example("a" * 1_000, ChunkOptions(100, 50), read_code)
def test_chunks_cover_the_text(text: str, options: ChunkOptions, read: object) -> None:
    assert callable(read)
    extract = read(clean(text))
    assert isinstance(extract, Extract)
    chunks = chunks_of(extract, options)
    assert_whole(extract.text, chunks, options)
    assert chunks == chunks_of(read(clean(text)), options)


@given(st.lists(st.tuples(st.integers(0, 7), st.text(max_size=300)), max_size=20), OPTIONS)
def test_chunks_cover_what_is_put_together(
    blocks: list[tuple[int, str]], options: ChunkOptions
) -> None:
    draft = Draft(1_000_000)
    for number, (level, text) in enumerate(blocks):
        if level == 7:
            draft.page(number)
        elif level:
            draft.heading(level, text)
        else:
            draft.block(text)
    extract = draft.done()
    assert len(draft) == len(extract.text)
    for place, _, words in extract.headings:
        assert " ".join(extract.text[place : place + len(words)].split())[:50] == words[:50]
    assert_whole(extract.text, chunks_of(extract, options), options)


@pytest.mark.parametrize("sign", [FAMILY, "e\u0301\u0327", FLAG, "\u1112\u1161\u11ab"])
@pytest.mark.parametrize("between", ["", " ", "\n", ". "])
def test_no_sign_is_cut(sign: str, between: str) -> None:
    if sign == FLAG and not between:
        pytest.skip("where one flag ends in a row of flags, its beginning tells, however far it is")
    text = "".join(f"{sign * (1 + i % 7)}{between}" for i in range(300))
    chunks = chunks_of(read_text(text), ChunkOptions(100, 0))
    assert len(chunks) > 5
    assert all((sign + between).startswith(it.text[0]) for it in chunks)
    assert sum(it.text.count(sign) for it in chunks) == text.count(sign)


def test_headings_above_are_kept() -> None:
    text = "intro\n\n# A *b* `c`\n\nx\n\n## [D](e)\n\n" + "y " * 300 + "\n\n# F\n\n" + "z " * 60
    chunks = chunks_of(read_markdown(text), ChunkOptions(200, 0))
    paths = list(dict.fromkeys(it.heading for it in chunks))
    assert paths in ([(), ("A b c", "D"), ("F",)], [(), ("A b c",), ("A b c", "D"), ("F",)])
    assert [it.text[:5] for it in chunks if it.heading == ("F",)] == ["# F\n\n"]


def test_front_matter_is_no_heading() -> None:
    extract = read_markdown('---\ntitle: "Größe"\ntags: a\n---\n\n# Öl\n\ntext\n')
    assert extract.title == "Größe"
    assert [words for _, _, words in extract.headings] == ["Öl"]
    assert extract.text[extract.headings[0][0] :].startswith("# Öl")


def test_code_is_cut_before_definitions() -> None:
    methods = "".join(f"    def step_{i}(self):\n        return {i}\n\n" for i in range(30))
    text = (
        f"import os\n\n\n@decorated\nclass Relay:\n{methods}\n# what for\ndef main():\n"
        f"{'    step()' * 20}\n"
    )
    chunks = chunks_of(read_code(text), ChunkOptions(300, 0))
    assert all(it.text.lstrip().startswith(("import", "@", "def", "# what")) for it in chunks)
    assert {it.heading[0] for it in chunks[1:]} == {"Relay", "main"}
    assert sum(it.heading[:1] == ("Relay",) and len(it.heading) == 2 for it in chunks) > 3


def _document(rng: random.Random) -> list[str]:
    words = [
        "relay",
        "outbox",
        "truth",
        "vector",
        "saga",
        "step",
        "store",
        "water",
        "kettle",
        "lab",
    ]

    def prose(count: int) -> str:
        return " ".join(rng.choice(words) for _ in range(count)).capitalize() + "."

    blocks = ["# Title"]
    while sum(map(len, blocks)) < 50_000:
        kind = rng.random()
        if kind < 0.2:
            blocks.append(f"## {prose(3)}")
        elif kind < 0.3:
            blocks.append("\n".join(f"- {prose(6)}" for _ in range(4)))
        else:
            blocks.append(" ".join(prose(rng.randint(4, 20)) for _ in range(3)))
    return blocks


def test_a_changed_paragraph_changes_few_chunks() -> None:
    rng, options, changed = random.Random(5), ChunkOptions(), list[int]()
    blocks = _document(rng)
    before = Counter(it.text for it in chunks_of(read_markdown("\n\n".join(blocks)), options))
    middle = [i for i in range(len(blocks) // 4, len(blocks) * 3 // 4) if blocks[i][0] not in "#-"]
    for place in middle[:60]:
        edited = list(blocks)
        edited[place] = (
            f"{blocks[place][:40]} It was changed here, by a little. {blocks[place][60:]}"
        )
        after = Counter(it.text for it in chunks_of(read_markdown("\n\n".join(edited)), options))
        changed.append((after - before).total())
    assert len(changed) > 30
    assert max(changed) <= 3
    assert sum(changed) <= 1.5 * len(changed)


def test_a_paragraph_before_all_moves_no_chunk() -> None:
    blocks = _document(random.Random(6))
    before = Counter(
        it.text for it in chunks_of(read_markdown("\n\n".join(blocks)), ChunkOptions())
    )
    text = "\n\n".join([blocks[0], "A new one, first of all. " * 9, *blocks[1:]])
    after = Counter(it.text for it in chunks_of(read_markdown(text), ChunkOptions()))
    assert (after - before).total() <= 3


@pytest.mark.parametrize(("size", "overlap"), [(99, 0), (100_001, 0), (1_000, 501), (1_000, -1)])
def test_sizes_that_cannot_be_kept_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="size"):
        ChunkOptions(size, overlap)
