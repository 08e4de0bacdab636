"""What a text is found by: its words, folded and stemmed. The same for every engine. Pure.

A store keeps the terms of an item beside its text, and a question is turned into terms by the same
functions, so that every engine finds the same, and a highlight marks exactly what was found.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from threading import Lock
from typing import Any, Final, NamedTuple

import snowballstemmer

from polyplane.errors import Misconfigured

EDITION: Final = 1
"""Part of the definition of what keeps terms: raise it when the same text gives other ones."""
PLAIN: Final = "plain"
"""The language of texts in any or several: words as they are, folded and not stemmed."""
ASKED_MAX: Final = 64
"""A question's different terms; what is behind them is not looked for."""
TERM_MAX: Final = 40
"""Characters of a term; longer words are cut: nobody types them whole."""

_CJK: Final = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
"""What is written without spaces between words: of these each two neighbours are a term."""
_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_MARKED_MAX: Final = 200
_NO_LETTER: Final = re.compile(r"[\W_]")
_KNOWN_WORDS: Final = 65_536
_STOPPING: Final = Lock()

_STOPS: Final = {
    "english": """
a about all am an and any are as at be been but by can could did do does for from had has have he
her his how i if in into is it its me my no not of on or our out over s she so some such t than
that the their them then there these they this to up us was we were what when where which who why
will with would you your
"""
}
"""Words that say little, by language; they are kept all the same: see `asked`."""


class Word(NamedTuple):
    """One term of a text, and the characters from `start` to `end` (exclusive) that it is of."""

    term: str
    start: int
    end: int


def check_language(language: str) -> None:
    """Raise Misconfigured for a language whose words nobody here can stem."""
    known = (PLAIN, *snowballstemmer.algorithms())
    if language not in known:
        raise Misconfigured(
            f"There is no full text in {language!r}.", fix=f"Known: {', '.join(sorted(known))}."
        )


def words(text: str, language: str) -> Iterator[Word]:
    """The terms of `text`, in order, and where they are."""
    for found in _pattern().finditer(text):
        word, start = found.group(), found.start()
        if _CJK.search(word) is None:
            if term := _term(word, language):
                yield Word(term, start, found.end())
        else:
            yield from _unspaced(word, start, language)


def _unspaced(word: str, start: int, language: str) -> Iterator[Word]:
    at = 0
    for run in _CJK.finditer(word):
        if (before := word[at : run.start()]) and (term := _term(before, language)):
            yield Word(term, start + at, start + run.start())
        first, at = run.span()
        if at - first == 1:
            yield Word(_folded(word[first]), start + first, start + at)
        for i in range(first, at - 1):
            yield Word(_folded(word[i : i + 2]), start + i, start + i + 2)
    if (rest := word[at:]) and (term := _term(rest, language)):
        yield Word(term, start + at, start + len(word))


def terms(text: str, language: str) -> list[str]:
    """The terms of `text`, in order, as often as they occur."""
    if not text.isascii() and _CJK.search(text):
        return [word.term for word in words(text, language)]
    pattern = _ASCII if text.isascii() else _pattern()
    return [term for word in pattern.findall(text) if (term := _term(word, language))]


def asked(question: str, language: str) -> list[str]:
    """The different terms to look for, in order; words that say little only if there is no other.

    What has no term, as a question of punctuation alone, finds nothing.
    """
    found = dict.fromkeys(terms(question, language))
    telling = [term for term in found if term not in _stops(language)]
    return (telling or list(found))[:ASKED_MAX]


def highlights(text: str, looked_for: Iterable[str], language: str) -> tuple[tuple[int, int], ...]:
    """Where `text` has one of the terms: (start, end) in characters, in order, apart.

    Characters are code points, as Python counts them. Escaping is the business of who shows it.
    """
    wanted, found = frozenset(looked_for), list[tuple[int, int]]()
    for term, start, end in words(text, language) if wanted else ():
        if term in wanted:
            if found and start <= found[-1][1]:  # pairs that overlap, or touch
                start = found.pop()[0]
            found.append((start, end))
    return tuple(found)


def excerpt(text: str, spans: Iterable[tuple[int, int]], length: int = 240) -> tuple[int, int]:
    """Where to cut `text` to at most `length` characters: (start, end), around most of `spans`.

    It begins and ends between words where there is a space near.
    """
    if len(text) <= length:
        return 0, len(text)
    marked = sorted(spans)[:_MARKED_MAX]
    first = max(
        (start for start, _ in marked),
        key=lambda at: (sum(at <= s and e <= at + length * 3 // 4 for s, e in marked), -at),
        default=0,
    )
    start = max(0, min(first - length // 8, len(text) - length))
    end = start + length
    if start and (space := text.find(" ", start, min(first, start + length // 8))) >= 0:
        start = space + 1
    if end < len(text) and (space := text.rfind(" ", max(start, end - length // 8), end)) > start:
        end = space
    return start, end


_ASCII: Final = re.compile(r"[0-9A-Za-z]+")


@cache
def _pattern() -> re.Pattern[str]:
    """A word: letters and digits, and the marks that many scripts write them with."""
    marks, start = [], None
    for code in range(0x300, 0x1F000):
        if unicodedata.category(chr(code)) in ("Mn", "Mc"):
            start = code if start is None else start
        elif start is not None:
            marks.append(f"{chr(start)}-{chr(code - 1)}")
            start = None
    return re.compile(rf"[^\W_](?:[^\W_]|[{''.join(marks)}])*")


@lru_cache(maxsize=_KNOWN_WORDS)
def _term(word: str, language: str) -> str:
    """The term of one word; empty when nothing of it is a letter or a digit."""
    lower = unicodedata.normalize("NFC", word.casefold())
    if language != PLAIN:
        with _STOPPING:  # a stemmer has a state
            lower = _stemmer(language).stemWord(lower)
    return sys.intern(_folded(lower))


def _folded(word: str) -> str:
    """Without accents, and other forms of the same letters; as much of it as a term may have."""
    if word.isascii():
        return word[:TERM_MAX]
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", word)).casefold()
    # What some letters come apart into is none (a slash, a space).
    kept = "".join(c for c in plain if not _NO_LETTER.match(c) or unicodedata.category(c)[0] == "M")
    return unicodedata.normalize("NFC", kept)[:TERM_MAX]


@cache
def _stemmer(language: str) -> Any:
    return snowballstemmer.stemmer(language)


@cache
def _stops(language: str) -> frozenset[str]:
    return frozenset(_term(word, language) for word in _STOPS.get(language, "").split())
