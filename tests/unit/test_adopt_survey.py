"""What can be adopted, by whom, and how what is found becomes Python names. No database."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from polyplane.errors import Misconfigured, NotFound, Refused
from polyplane.ops.declaration import Sample, Taken, declare, key_obstacle, quoted, slug
from polyplane.ops.scaffold import source
from polyplane.ops.survey import Relation, Rights, check_rights, choose, obstacle_of

FINE: dict[str, Any] = {
    "schema": "public",
    "name": "note",
    "kind": "r",
    "is_partition": False,
    "is_unlogged": False,
    "owner": "ann",
    "is_owned": True,
    "hides_rows": False,
    "has_key": True,
    "has_heirs": False,
    "is_of_extension": False,
}


def relation(**changes: Any) -> Relation:
    return Relation(**FINE | changes)


def rights(**changes: Any) -> Rights:
    fine = Rights("shop", "bob", 180_000, False, True, None)
    return fine._replace(**changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"kind": "p"}, ""),
        ({"kind": "v"}, "a view"),
        ({"kind": "m"}, "materialized view"),
        ({"kind": "f"}, "foreign table"),
        ({"is_partition": True}, "a partition"),
        ({"is_owned": False, "owner": 'Ann "A"'}, 'GRANT "Ann ""A""" TO "bob"'),
        ({"hides_rows": True}, "row level security"),
        ({"has_heirs": True}, "inherit"),
        ({"is_of_extension": True}, "extension"),
        ({"has_key": False}, "no primary key"),
    ],
)
def test_an_obstacle_says_why(changes: dict[str, Any], why: str) -> None:
    found = obstacle_of(relation(**changes), "bob")
    assert why in found and bool(found) == bool(why)


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"may_create": False}, 'GRANT CREATE ON DATABASE "shop" TO "bob";'),
        ({"plane_of_other": "ann"}, 'GRANT "ann" TO "bob";'),
        ({"is_standby": True}, "primary"),
        ({"version": 140_010}, "15 is the oldest"),
    ],
)
def test_a_missing_right_names_its_grant(changes: dict[str, Any], fix: str) -> None:
    check_rights(rights())
    with pytest.raises(Misconfigured) as refused:
        check_rights(rights(**changes))
    assert fix in str(refused.value)


def test_tables_are_chosen_by_name() -> None:
    note, other = relation(), relation(schema="old")
    odd, view = relation(name='Odd "Name"'), relation(name="seen", kind="v")
    everything = [note, other, odd, view]
    assert choose(everything, [], "bob") == (
        [note, other, odd],
        {"public.seen": "it is a view; project the tables it reads"},
    )
    assert choose(everything, ["old.note", 'Odd "Name"'], "bob") == ([other, odd], {})
    assert choose(everything, ["PUBLIC.NOTE", '"public"."note"'], "bob") == ([note], {})
    with pytest.raises(Refused, match="Several tables are called note"):
        choose(everything, ["note"], "bob")
    with pytest.raises(NotFound):
        choose(everything, ["teapot"], "bob")
    with pytest.raises(Refused, match="cannot be adopted: it is a view"):
        choose(everything, ["seen"], "bob")


def table(name: str, *columns: sa.Column[Any], schema: str = "public") -> sa.Table:
    return sa.Table(name, sa.MetaData(), *columns, schema=schema)


def written(*tables: sa.Table, samples: dict[str, Sample] | None = None) -> str:
    taken = Taken()
    declared = [declare(one, samples or {}, taken) for one in tables]
    text = source(declared, database="shop", file="x.py", home="var/shop", namespace="shop")
    ast.parse(text)
    return text


def key() -> sa.Column[Any]:
    return sa.Column("id", sa.BigInteger, primary_key=True)


def test_filled_text_is_searched_and_blank_text_is_not() -> None:
    note = table("note", key(), sa.Column("title", sa.Text), sa.Column("filler", sa.CHAR(84)))
    assert "parts = (row.title, row.filler)" in written(note)
    blank = {"filler": Sample(is_filled=False)}
    assert 'text = (row.title or "").strip()' in written(note, samples=blank)
    both = blank | {"title": Sample(is_filled=False)}
    assert '"id": row.id, "title": row.title, "filler": row.filler' in written(note, samples=both)


def test_secrets_are_neither_embedded_nor_tags() -> None:
    text = written(
        table("account", key(), sa.Column("api_key", sa.Text), sa.Column("token_no", sa.Integer))
    )
    assert "row.api_key" not in text and "row.token_no" not in text
    assert "# not used: api_key: may be a secret" in text


def test_two_tables_never_share_a_name() -> None:
    text = written(
        table("note", key()),
        table("note", key(), schema="old"),
        table("note_search", key()),
        table("Note", key()),
        table("表", key()),
        table("裏", key()),
    )
    tree = ast.parse(text)
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) == len(set(classes))
    assert {"Note", "OldNote"} <= set(classes)
    names = [line for line in text.splitlines() if line.startswith("    name = ")]
    assert len(names) == len(set(names)) == 6
    assert all(line.isascii() for line in names)


@pytest.mark.parametrize(
    "name", ["class", "int", "sa", "metadata", "_x", "2nd", "a b", "é", "'\"\\"]
)
def test_any_column_name_becomes_an_attribute(name: str) -> None:
    text = written(table("note", key(), sa.Column(name, sa.Integer)))
    (model,) = (n for n in ast.parse(text).body if getattr(n, "name", "") == "Note")
    assert isinstance(model, ast.ClassDef)
    fields = [
        n.target.id
        for n in model.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    ]
    assert len(fields) == 2 and all(not field.startswith("_") for field in fields)
    assert name in fields or f"mapped_column({quoted(name)}" in text


def test_a_key_of_an_unknown_type_is_an_obstacle() -> None:
    assert key_obstacle(table("net", sa.Column("a", pg.INET, primary_key=True)))
    assert key_obstacle(table("bare", sa.Column("a", sa.Text)))
    domain = pg.DOMAIN("code", sa.Text())
    assert not key_obstacle(table("net", sa.Column("a", domain, primary_key=True)))


@pytest.mark.parametrize(
    "value", ["plain", 'a "b"', "it's", "both ' and \"", "a\\b", "a\nb", "é\u202e"]
)
def test_a_literal_means_what_it_was(value: str) -> None:
    assert ast.literal_eval(quoted(value)) == value


def test_slug_is_ascii() -> None:
    assert [slug(text) for text in ("Größe 2", "表", "a__b-C")] == ["groe_2", "", "a_b_c"]
