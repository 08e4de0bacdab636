"""Whatever is done to audit without the key is found; and what is whole is never doubted."""

from __future__ import annotations

from asyncio import run
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, strategies as st

from polyplane.errors import Misconfigured
from polyplane.reconcile.auditing import prove_lines
from polyplane.security import merkle
from polyplane.security.sealing import Seal, SealingKey, is_signed, is_visible, spans_of
from polyplane.security.secret_file import secret_in
from tests.flow.audit_tampering import EVE, KINDS, Books, books_of, pages

KEY = SealingKey("bm90LXRoZS1rZXktb2YtYW55LXJlYWwtaG9tZS1hdC0")
KEYS = {KEY.public}


def proven(books: Books) -> dict[str, int]:
    """What a verify finds, by kind."""
    return run(books.proven(KEYS)).kinds


@given(st.integers(0, 1 << 32), st.integers(1, 12))
def test_what_is_whole_is_never_doubted(seed: int, windows: int) -> None:
    books = books_of(Random(seed), KEY, windows)
    found = run(books.proven(KEYS))
    assert found.findings == []
    assert (found.rows, found.seals) == (len(books.rows), len(books.seals))
    assert found.head == found.outside == len(books.seals)


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 1 << 32), st.integers(3, 6))
def test_every_tampering_is_found(kind: str, seed: int, windows: int) -> None:
    chance = Random(seed)
    books = books_of(chance, KEY, windows)
    KINDS[kind](books, chance)
    assert proven(books), kind


@given(st.integers(0, 1 << 32), st.integers(2, 8))
def test_rows_that_wait_for_their_seal_are_no_finding(seed: int, windows: int) -> None:
    books = books_of(Random(seed), KEY, windows)
    books.seals.pop()  # the sealer has not been there yet
    books.outside = list(books.seals)
    found = run(books.proven(KEYS))
    assert found.findings == []
    assert found.waiting == len(books.rows) - sum(it.rows for it in books.seals)


async def test_seals_alone_are_checked_without_a_database() -> None:
    books = books_of(Random(1), KEY, 20)
    lines = [it.line.encode() for it in books.seals]
    assert (await prove_lines(pages(lines), KEYS)).kinds == {}
    assert (await prove_lines(pages(lines), {EVE.public})).kinds == {"forged": len(lines)}
    assert "broken" in (await prove_lines(pages([*lines[:3], *lines[4:]]), KEYS)).kinds
    assert "forged" in (await prove_lines(pages([b"{}", *lines]), KEYS)).kinds
    swapped = [lines[0], lines[2], lines[1], *lines[3:]]
    assert "broken" in (await prove_lines(pages(swapped), KEYS)).kinds


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70), st.randoms())
def test_a_proof_leads_to_the_root_and_no_other_leaf_does(
    contents: list[bytes], chance: Random
) -> None:
    leaves = [merkle.leaf(it) for it in contents]
    index = chance.randrange(len(leaves))
    steps = merkle.proof(leaves, index)
    assert merkle.root_by(leaves[index], steps) == merkle.root(leaves)
    assert merkle.root_by(merkle.leaf(b"something else"), steps) != merkle.root(leaves)
    with pytest.raises(ValueError):
        merkle.root_by(leaves[index], ["L00"])


@given(st.integers(0, 1 << 32), st.data())
def test_a_seal_is_read_back_and_no_bit_of_it_can_be_another(
    seed: int, data: st.DataObject
) -> None:
    seal = books_of(Random(seed), KEY, 3).seals[-1]
    assert Seal.parse(seal.line) == seal and is_signed(seal, KEYS)
    text = bytearray(seal.line.encode())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= 1 << data.draw(st.integers(0, 6))
    try:
        other = Seal.parse(bytes(text))
    except ValueError:
        return
    assert other == seal or not is_signed(other, KEYS)


def test_numbers_become_spans() -> None:
    assert spans_of([1, 2, 3, 7, 9, 10]) == ((1, 3), (7, 7), (9, 10))
    assert spans_of([]) == ()


def test_a_snapshot_is_read_as_postgresql_reads_it() -> None:
    seen = [is_visible(xid, "10:15:11,13") for xid in range(9, 17)]
    assert seen == [True, True, False, True, False, True, False, False]
    assert not is_visible(5, "1:1:")


@pytest.mark.parametrize("text", ["", "changeme", "A" * 43, "!" * 43])
def test_a_key_that_anybody_could_guess_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured):
        SealingKey(text)


def test_the_key_of_a_home_is_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    assert SealingKey(secret_in(path)).public == SealingKey(secret_in(path)).public
    assert path.stat().st_mode & 0o777 == 0o600
