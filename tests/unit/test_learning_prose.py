"""What is found in prose: headings, terms, and which of them come together."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given, strategies as st

from polyplane.domains.agents.learning.findings import Findings
from polyplane.domains.agents.learning.prose import found_in_markdown, found_in_text
from polyplane.domains.agents.learning.terms import c_values, candidates, key_of, terms_of
from tests.unit.test_learning_python import assert_whole

PAGE = """# The data plane

PostgreSQL holds the truth. The [vector store](https://example.org/vector) follows from the truth.

## 2. Vector stores

A vector store is **rebuilt** from `PostgreSQL`. PostgreSQL is not rebuilt.

```python
no_term = "of code"
```

### Repair

By the truth it repairs a vector store; see <b>PostgreSQL</b>.

## Graphs
"""


def test_headings_hold_each_other_and_cover_terms() -> None:
    found = found_in_markdown("page", PAGE)
    assert found.title == "The data plane"
    categories = {name: it.category for name, it in found.views.items()}
    assert categories == {
        "the data plane": "heading",
        "vector store": "heading",
        "repair": "heading",
        "graph": "heading",
        "postgresql": "term",
        "truth": "term",
    }
    kept = {k[:2] for k in found.relations if k[2] == "contains"}
    assert kept == {
        ("the data plane", "vector store"),
        ("vector store", "repair"),
        ("the data plane", "graph"),
    }
    assert ("repair", "postgresql", "covers") in found.relations
    assert found.relations["postgresql", "vector store", "occurs with"] == 2
    assert (
        found.views["repair"].summary == "By the truth it repairs a vector store; see PostgreSQL ."
    )
    assert "code" not in str(found.views) and "example.org" not in str(found.views)


def test_plain_text_has_headings_that_are_underlined() -> None:
    text = "Kettles\n=======\n\nA steam kettle boils.\n\nLids\n----\n\nThe steam kettle has lids.\n"
    text += "\nThis is the steam kettle.\n"
    found = found_in_text("notes", text)
    assert found.title == "Kettles"
    assert ("kettle", "lid", "contains") in found.relations
    assert found.views["steam kettle"].category == "term"


def test_without_headings_the_title_is_the_given_one() -> None:
    assert found_in_text("notes", "Nothing twice.") == Findings("notes", "text")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("Data Planes", "data plane"),
        ("  the  ANALYSES ", "the analyse"),
        ("classes", "classe"),
        ("bus", "bus"),
        ("policies", "policy"),
        ("glass", "glass"),
        ("Kettle’s lid", "kettle lid"),
        ("…", ""),
    ],
)
def test_spellings_have_one_key(words: str, key: str) -> None:
    assert key_of(words) == key


def test_a_word_that_is_only_within_a_term_is_none() -> None:
    """The example of the authors: what is seen only in longer terms has no value of its own."""
    values = c_values({"soft contact lens": 3, "hard contact lens": 2, "contact lens": 1})
    assert values["soft contact lens"] == 6
    assert values["contact lens"] == pytest.approx(1.585 * (6 - 5 / 2), abs=0.01)
    [there] = terms_of(["A soft contact lens is a lens. The soft contact lens is good."])
    assert there == ["soft contact len"]


@given(st.lists(st.text(max_size=200), max_size=6))
def test_terms_are_candidates_of_their_own_unit(units: list[str]) -> None:
    there = terms_of(units)
    assert len(there) == len(units)
    for unit, terms in zip(units, there, strict=True):
        assert set(terms) <= set(candidates(unit))
        assert len(set(terms)) == len(terms)


_PROSE = st.text(st.sampled_from("# =-\n`*_[]()<>|ab1.é\0"), max_size=300)


@given(st.one_of(_PROSE, st.text()))
def test_any_text_is_learned(text: str) -> None:
    for found in (found_in_markdown("t", text), found_in_text("t", text)):
        assert found.title
        assert_whole(found)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50000,
        "> " * 25000,
        "- " * 25000,
        "`" * 50000,
        "<" * 50000,
        "*a_ " * 12500,
        "![a](" * 10000,
        "a." * 25000,
        "1." * 25000 + "x",
        "a  - " * 10000,
        "# a\n" * 10000,
        "|a" * 15000 + "\n" + "|-" * 15000,
        "a\n=\n" * 10000,
        "word" + "s" * 50000,
        "x " * 25000,
    ],
    ids=lambda text: repr(text[:6]),
)
def test_no_text_takes_long(text: str) -> None:
    """Time by the square of the length would be minutes; a tenth of a second is usual."""
    began_s = process_time()
    found_in_markdown("t", text)
    found_in_text("t", text)
    assert process_time() - began_s < 20
