"""Free Cypher is read as far as it must be: words, labels, and where it ends."""

from __future__ import annotations

import pytest

from polyplane.errors import Refused
from polyplane.stores.graph.cypher_text import check_single, relabelled, tokens, words

NAMES = {"Agent": "Agent_g2", "CAN_USE": "lab.CAN_USE", "Tool": "Tool"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("MATCH (a:Agent) RETURN a", "MATCH (a:`Agent_g2`) RETURN a"),
        ("MATCH (:Agent)-[:CAN_USE]->(t:Tool)", "MATCH (:`Agent_g2`)-[:`lab.CAN_USE`]->(t:Tool)"),
        ("MATCH (a:`Agent`)", "MATCH (a:`Agent_g2`)"),
        ("MATCH (a :  /* x */ Agent)", "MATCH (a :  /* x */ `Agent_g2`)"),
        ("()-[r:OTHER|CAN_USE*1..3]-()", "()-[r:OTHER|`lab.CAN_USE`*1..3]-()"),
        ("()-[r:OTHER|:CAN_USE]-()", "()-[r:OTHER|:`lab.CAN_USE`]-()"),
        ("(a:!(Tool|Agent)&Agent)", "(a:!(Tool|`Agent_g2`)&`Agent_g2`)"),
        ("(a:Tool:Agent {name: Agent})", "(a:Tool:`Agent_g2` {name: Agent})"),
        ("RETURN {kind: Agent, `of`: Agent}", "RETURN {kind: Agent, `of`: Agent}"),
        ("RETURN a {.name, kind: Agent}", "RETURN a {.name, kind: Agent}"),
        ("RETURN {n: [(a)-->(b:Agent) | b.x]}", "RETURN {n: [(a)-->(b:`Agent_g2`) | b.x]}"),
        ("WHERE EXISTS { MATCH (b:Agent) }", "WHERE EXISTS { MATCH (b:`Agent_g2`) }"),
        ("WHERE EXISTS { (b:Agent) }", "WHERE EXISTS { (b:`Agent_g2`) }"),
        ("WHERE a:Agent AND a.Agent = 'a:Agent'", "WHERE a:`Agent_g2` AND a.Agent = 'a:Agent'"),
        ("[a IN x WHERE a:Tool | Agent.name]", "[a IN x WHERE a:Tool | Agent.name]"),
        ("MATCH (Agent) // (a:Agent)\nRETURN 1", "MATCH (Agent) // (a:Agent)\nRETURN 1"),
        ("RETURN \"it's :Agent\", 'a\\':Agent'", "RETURN \"it's :Agent\", 'a\\':Agent'"),
        ("RETURN `a:Agent`, $Agent", "RETURN `a:Agent`, $Agent"),
    ],
)
def test_labels_are_replaced_and_nothing_else(text: str, wanted: str) -> None:
    assert relabelled(text, NAMES) == wanted
    assert "".join(token.text for token in tokens(text)) == text


def test_what_stands_for_itself_is_left() -> None:
    assert relabelled("MATCH (a:Agent)", {"Agent": "Agent"}) == "MATCH (a:Agent)"


def test_words_are_what_is_neither_text_nor_comment_nor_quoted() -> None:
    said = "match (`load`) /* copy */ RETURN 'delete', $set // drop\n, \"call\" limit 3"
    assert words(said) == ["MATCH", "RETURN", "LIMIT"]


@pytest.mark.parametrize(
    "text", ["RETURN 'a", 'RETURN "a', "RETURN `a", "RETURN 1 /* a", r"RETURN '\u0027 x'"]
)
def test_what_does_not_end_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        tokens(text)
    assert refused.value.field == "text"


def test_one_statement_at_a_time() -> None:
    for text in ("RETURN ';'", "RETURN 1 ;", "RETURN 1; /* done; */ ;"):
        check_single(text)
    for text in ("", " ; ", "// nothing", "RETURN 1; RETURN 2", "COMMIT; RETURN 1"):
        with pytest.raises(Refused):
            check_single(text)
