"""What is found in Python: names as far as the file tells, and nothing that stops learning."""

from __future__ import annotations

from collections import Counter
from textwrap import dedent

import pytest
from hypothesis import given, strategies as st

from polyplane.domains.agents.learning.findings import (
    NAME_MAX,
    SUMMARY_MAX,
    WEIGHTS,
    Findings,
    clean,
    shortened,
    strength_of,
)
from polyplane.domains.agents.learning.python_source import Unlearnable, found_in_python

SOURCE = dedent(
    '''
    """Kettles, and what boils in them.

    Not told.
    """
    import os
    import os.path as paths
    import json.decoder
    from collections import OrderedDict as Ordered
    from . import water
    from ..cups import Cup, _hidden
    from .steam import *

    class Kettle(Ordered, Cup):
        """Boils."""

        def boil(self, to=paths.join("a")):
            """Heat it."""
            self.fill()
            self._heat()
            self.nothing_known()
            def inner():
                os.getcwd()
            return json.decoder.JSONDecoder()

        def fill(self): water.pour(self).then()

        def _heat(self):
            Kettle.fill(self); _warm(); os._exit(1)

    class _Lid:
        def open(self): os.stat("x")

    async def serve(cup, /, *, sugar=0):
        Kettle().boil(); Kettle(); cup.drink(); print()

    def _warm(): serve(None)

    @os.register
    def decorated(): ...

    if True:
        def sometimes(): ...
    '''
)


def test_what_a_module_holds_and_does() -> None:
    found = found_in_python("house.kitchen.kettle", SOURCE)
    m = "house.kitchen.kettle"
    told = {name: (it.category, it.summary) for name, it in found.views.items() if it.category}
    assert told == {
        m: ("module", "Kettles, and what boils in them."),
        f"{m}.Kettle": ("class", "Boils."),
        f"{m}.Kettle.boil": ("function", "Heat it."),
        f"{m}.Kettle.fill": ("function", "fill(self)"),
        f"{m}.serve": ("function", "serve(cup, sugar)"),
        f"{m}.decorated": ("function", "decorated()"),
        f"{m}.sometimes": ("function", "sometimes()"),
    }
    assert {k: n for k, n in found.relations.items() if k[2] == "inherits"} == {
        (f"{m}.Kettle", "collections.OrderedDict", "inherits"): 1,
        (f"{m}.Kettle", "house.cups.Cup", "inherits"): 1,
    }
    assert {k[:2]: n for k, n in found.relations.items() if k[2] == "calls"} == {
        (f"{m}.Kettle", "os.path.join"): 1,
        (f"{m}.Kettle.boil", f"{m}.Kettle.fill"): 1,
        (f"{m}.Kettle.boil", "os.getcwd"): 1,
        (f"{m}.Kettle.boil", "json.decoder.JSONDecoder"): 1,
        (f"{m}.Kettle.fill", "house.kitchen.water.pour"): 1,
        (f"{m}.Kettle", f"{m}.Kettle.fill"): 1,
        (f"{m}.Kettle", m): 1,
        (f"{m}.Kettle", "os"): 1,
        (m, "os.stat"): 1,
        (f"{m}.serve", f"{m}.Kettle"): 2,
        (m, f"{m}.serve"): 1,
    }
    assert {k[1] for k in found.relations if k[2] == "imports"} == {
        "os",
        "os.path",
        "json.decoder",
        "collections",
        "collections.OrderedDict",
        "house.kitchen",
        "house.kitchen.water",
        "house.cups",
        "house.cups.Cup",
        "house.kitchen.steam",
    }
    assert ("house.kitchen", m, "contains") in found.relations


def test_a_package_is_its_own_parent() -> None:
    inside = found_in_python("house", "from .cups import Cup\nfrom .. import far", is_package=True)
    assert (("house", "house.cups.Cup", "imports")) in inside.relations
    assert "far" not in str(inside.relations)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def (:", "no Python"),
        (b"\xff\xfe\x00", "no Python"),
        ("a = " + "(" * 5_000, "no Python"),
        ("a = " + "-" * 200_000 + "1", "nested too deeply"),
        ("x\0y", "no Python"),
        (b"# coding: no-such-thing\n", "no Python"),
        ("print 'two'", "no Python"),
    ],
)
def test_what_is_no_python_says_why(source: str | bytes, why: str) -> None:
    with pytest.raises(Unlearnable, match=why):
        found_in_python("m", source)


def test_a_module_whose_name_is_too_long_is_not_learned() -> None:
    with pytest.raises(Unlearnable):
        found_in_python("m" * (NAME_MAX + 1), "")


_NAMES = st.sampled_from(["a", "b", "_c", "Deep", "os", "self"])
_LINES = st.one_of(
    st.builds("import {}".format, _NAMES),
    st.builds("from {} import {} as {}".format, _NAMES, _NAMES, _NAMES),
    st.builds("def {}({}): {}.{}({}())".format, _NAMES, _NAMES, _NAMES, _NAMES, _NAMES),
    st.builds("class {}({}.{}): {} = {}()".format, _NAMES, _NAMES, _NAMES, _NAMES, _NAMES),
    st.builds("class {}:\n def {}(self): self.{}()".format, _NAMES, _NAMES, _NAMES),
)


@given(st.lists(_LINES, max_size=12).map("\n".join))
def test_any_module_has_whole_relations_and_visible_concepts(source: str) -> None:
    found = found_in_python("top.mod", source)
    assert_whole(found)
    assert found == found_in_python("top.mod", source)
    for name, view in found.views.items():
        if view.category in ("class", "function"):
            assert not any(part.startswith("_") for part in name.split(".")[2:])


@given(st.text())
def test_any_text_is_found_in_or_refused(source: str) -> None:
    try:
        found = found_in_python("m", source)
    except Unlearnable:
        return
    assert_whole(found)


@given(st.text(), st.integers(10, 60))
def test_a_summary_is_one_line_that_can_be_stored(text: str, length: int) -> None:
    told = shortened(text, length)
    assert len(told) <= length and told == " ".join(told.split())
    assert clean(told) == told and "\0" not in told
    told.encode()


@given(st.sampled_from(sorted(WEIGHTS)), st.integers(1, 10**6))
def test_more_mentions_are_stronger(kind: str, times: int) -> None:
    assert 0 < strength_of(kind, times) < strength_of(kind, times + 1) <= 1


def assert_whole(found: Findings) -> None:
    """Whatever is found can be stored."""
    assert found.mentions.keys() == found.views.keys()
    assert all(times > 0 for times in (*found.mentions.values(), *found.relations.values()))
    ends = Counter(end for source, target, _ in found.relations for end in (source, target))
    assert ends.keys() <= found.views.keys()
    assert all(source != target for source, target, _ in found.relations)
    assert all(0 < len(name) <= NAME_MAX for name in found.views)
    for name, view in found.views.items():
        assert clean(name) == name
        assert view.summary is None or 0 < len(view.summary) <= SUMMARY_MAX
