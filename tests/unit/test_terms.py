"""Terms, highlights and excerpts: what a text is found by, and where."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from polyplane.errors import Misconfigured
from polyplane.model.terms import (
    ASKED_MAX,
    TERM_MAX,
    asked,
    check_language,
    excerpt,
    highlights,
    terms,
    words,
)

LANGUAGES = st.sampled_from(["english", "german", "plain"])
SOME = st.text(max_size=200) | st.text(alphabet="aé e\u0301ßKİ東京都ﬁ½ﷺ_'-\0\ud800", max_size=60)


@given(SOME, LANGUAGES)
def test_terms_can_stand_between_spaces(text: str, language: str) -> None:
    """Engines take them apart at spaces, and store them as UTF-8."""
    for term in terms(text, language):
        assert 0 < len(term) <= TERM_MAX
        assert term.split() == [term]
        term.encode()


@given(SOME, LANGUAGES)
def test_words_are_in_order_and_where_they_say(text: str, language: str) -> None:
    found = list(words(text, language))
    assert [word.term for word in found] == terms(text, language)
    for word in found:
        assert terms(text[word.start : word.end], language)[:1] == [word.term]
    assert [w.start for w in found] == sorted(w.start for w in found)


@given(st.text(alphabet="abc XYZ019", max_size=80), LANGUAGES)
def test_case_does_not_matter(text: str, language: str) -> None:
    assert terms(text, language) == terms(text.upper(), language)


@given(SOME, SOME, LANGUAGES)
def test_highlights_are_what_is_found(text: str, question: str, language: str) -> None:
    looked_for = asked(question, language)
    spans = highlights(text, looked_for, language)
    assert bool(spans) == bool(set(looked_for) & set(terms(text, language)))
    last = -1
    for start, end in spans:
        assert last < start < end <= len(text)
        assert set(terms(text[start:end], language)) & set(looked_for)
        last = end


@given(SOME, st.integers(1, 50))
def test_an_excerpt_fits(text: str, length: int) -> None:
    spans = highlights(text, asked(text[:20], "plain"), "plain")
    start, end = excerpt(text, spans, length)
    assert 0 <= start <= end <= len(text)
    assert end - start <= max(length, 0)
    assert (start, end) == (0, len(text)) or len(text) > length


def test_an_excerpt_shows_what_was_found() -> None:
    text = "water " * 200 + "the samovar boils" + " water" * 200
    spans = highlights(text, asked("samovar", "english"), "english")
    start, end = excerpt(text, spans)
    assert "the samovar boils" in text[start:end]
    assert text[start - 1] == " " == text[end]


def test_highlights_in_unicode() -> None:
    text = "Zoë’s café 😀 – the CAFÉS of 東京都."
    spans = highlights(text, asked("cafes 東京 zoe", "english"), "english")
    assert [text[a:b] for a, b in spans] == ["Zoë", "café", "CAFÉS", "東京"]
    assert [text[a:b] for a, b in highlights(text, asked("東京都", "plain"), "plain")] == ["東京都"]


def test_words_that_say_little_are_left_out_unless_alone() -> None:
    assert asked("What is the state of the kettle?", "english") == ["state", "kettl"]
    assert asked("To be, or not to be", "english") == ["to", "be", "or", "not"]
    assert asked("the kettle", "plain") == ["the", "kettle"]
    assert asked("?!", "english") == []


def test_a_question_is_bounded() -> None:
    assert len(asked(" ".join(f"w{i}" for i in range(9_999)), "plain")) == ASKED_MAX


@pytest.mark.parametrize("language", ["klingon", "", "English"])
def test_unknown_languages(language: str) -> None:
    with pytest.raises(Misconfigured):
        check_language(language)
    check_language("plain")
    check_language("german")
