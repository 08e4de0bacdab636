"""What a text is about: its terms, by C-value. Pure.

Runs of words between stop words and punctuation are candidates, as a noun phrase has no stop word
in it. Their C-value (Frantzi, Ananiadou and Mima, 2000; with single words, as Barrón-Cedeño and
others, 2009) is how often they are seen, less how often that is only within a longer one, times the
logarithm of their length. Words of a language whose stop words are not known make longer
candidates, which are left out: less is learned then, and nothing wrong.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import log2
from typing import Final

WORDS_MAX: Final = 4
TERM_MAX: Final = 80
"""Characters of a term."""
VALUE_MIN: Final = 3.0
"""What a term is worth at least: a single word seen three times, two words together seen twice."""
TERMS_MAX: Final = 60
"""Of one file."""

_BREAK: Final = re.compile(r"[^\w\s'’./+#-]+|(?<=\w)[.:](?=\s|$)|\s[-/.]+\s", re.UNICODE)
_WORD: Final = re.compile(r"[^\W_](?:[\w'’.+#-]*[\w+#])?", re.UNICODE)
_STOP_WORDS: Final = """
a about above across after again against all almost alone along already also although always
am among an and another any anybody anyone anything anywhere are around as asked at away back
be became because become becomes been before began behind being below best better between both
but by came can cannot come comes could did do does doing done down during each either else end
enough etc even ever every everybody everyone everything everywhere few find first for from
further gave get gets give given gives go goes going gone good got great had has have having he
her here hers herself him himself his how however i if in instead into is it its itself just
keep keeps kept know known last later least less let lets like likely long longer made make
makes making many may maybe me mean means might more most much must my myself need needed needs
never new next no nobody non none nor not nothing now nowhere of off often old on once one only
onto or other others otherwise our ours ourselves out over own part per perhaps please put
quite rather really right said same saw say says second see seem seemed seems seen several
shall she should show shown shows since so some somebody someone something sometimes somewhere
still such sure take taken takes than that the their theirs them themselves then there
therefore these they thing things think this those though through thus to today together too
took toward towards two under until up upon us use used uses using usually very via want wanted
wants was way we well went were what whatever when where whether which while who whole whom
whose why will with within without would yes yet you your yours yourself yourselves
don't doesn't didn't isn't aren't wasn't can't couldn't won't it's that's there's e.g i.e vs
"""
_STOP: Final = frozenset(_STOP_WORDS.split())


def key_of(words: str) -> str:
    """What two spellings of a term have in common: small letters, one space, no plural."""
    parts = [_bare(word) for word in _WORD.findall(words.casefold())]
    if not parts:
        return ""
    parts[-1] = singular(parts[-1])
    return " ".join(parts)


def singular(word: str) -> str:
    """An English word without the ending of its plural (Harman's S stemmer)."""
    if len(word) < 4 or not word.endswith("s"):
        return word
    if word.endswith("ies") and word[-4] not in "ae":
        return f"{word[:-3]}y"
    if word.endswith("es") and word[-3] not in "aeo":
        return word[:-1]
    return word[:-1] if word[-2] not in "us" else word


def candidates(text: str) -> Iterator[str]:
    """The keys of what may be a term, each as often as it is seen."""
    for piece in _BREAK.split(text.casefold()):
        run: list[str] = []
        for word in (*_WORD.findall(piece), "a"):
            bare = _bare(word)
            if bare not in _STOP and not bare.replace(".", "").isdigit() and len(bare) > 1:
                run.append(bare)
                continue
            if run and len(run) <= WORDS_MAX:
                found = " ".join([*run[:-1], singular(run[-1])])
                if 2 < len(found) <= TERM_MAX:
                    yield found
            run = []


def c_values(seen: Mapping[str, int]) -> dict[str, float]:
    """Term -> C-value, given how often each candidate is seen as a whole."""
    inside: dict[str, list[int]] = defaultdict(list)
    totals = Counter(seen)
    for longer, times in seen.items():
        for part in _parts(longer):
            if part in seen:
                totals[part] += times
    for longer in seen:
        for part in _parts(longer):
            if part in seen:
                inside[part].append(totals[longer])
    return {
        term: log2(1 + len(term.split())) * (times - sum(nested) / max(len(nested), 1))
        for term, times in totals.items()
        for nested in [inside.get(term, [])]
    }


def terms_of(units: Sequence[str]) -> list[list[str]]:
    """For each of the texts that make up a file the terms in it, without repetition, in the order
    of the first time; terms are what is worth it in the whole file.
    """
    seen = [list(candidates(unit)) for unit in units]
    values = c_values(Counter(term for each in seen for term in each))
    worth = sorted((term for term, it in values.items() if it >= VALUE_MIN), key=lambda t: t)
    worth.sort(key=lambda term: -values[term])
    kept = frozenset(worth[:TERMS_MAX])
    return [[term for term in dict.fromkeys(each) if term in kept] for each in seen]


def _parts(term: str) -> Iterator[str]:
    """The shorter runs of words in a term."""
    words = term.split()
    found = {
        " ".join(words[start : start + length])
        for length in range(1, len(words))
        for start in range(len(words) - length + 1)
    }
    return iter(found)


def _bare(word: str) -> str:
    return word.replace("’", "'").removesuffix("'s").strip("'.-")
