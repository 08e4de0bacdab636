"""The Cranfield collection (Cleverdon, 1967): 1,398 abstracts on aerodynamics, 225 questions.

It is nobody's to hand on here: whoever has it names its folder, with `cran.all.1400`, `cran.qry`
and `cranqrel` in it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from bench.retrieval.judged import Judged, Query

FILES: Final = ("cran.all.1400", "cran.qry", "cranqrel")
_GRADES: Final = {1: 4, 2: 3, 3: 2, 4: 1}
"""Codes of relevance, of which 1 is a complete answer; any other is of no interest."""


def read(folder: Path) -> Judged:
    """The collection. Judgements name questions by their place in the file, not by their number."""
    documents, questions, judged = ((folder / name).read_text(encoding="latin-1") for name in FILES)
    passages = {}
    for number, body in _records(documents):
        parts = dict(re.findall(r"^\.([TABW])\n(.*?)(?=^\.[TABW]\n|\Z)", body, re.M | re.S))
        title, words = (" ".join(parts.get(name, "").split()) for name in "TW")
        if words:
            text = words.removeprefix(title).strip()
            passages[number] = f"{title}\n\n{text}"
    grades: dict[int, dict[str, int]] = {}
    for line in judged.splitlines():
        if len(found := line.split()) >= 3:
            question, document, code = found[:3]
            if (grade := _GRADES.get(int(code))) and document in passages:
                grades.setdefault(int(question), {})[document] = grade
    queries = [
        Query("question", " ".join(body.split(".W\n", 1)[1].split()), grades[place])
        for place, (_, body) in enumerate(_records(questions), 1)
        if place in grades
    ]
    return Judged("cranfield", passages, queries)


def _records(text: str) -> list[tuple[str, str]]:
    """(number, what follows) of each record."""
    return [
        (number.lstrip("0"), body)
        for number, body in re.findall(r"^\.I (\d+)\s*\n(.*?)(?=^\.I |\Z)", text, re.M | re.S)
    ]
