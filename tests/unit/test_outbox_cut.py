"""How rows of the outbox are cut into pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from polyplane.truth import outbox
from polyplane.truth.outbox import OutboxRow, Page

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS, KEYS = 7, 20


@pytest.fixture(autouse=True, scope="module")
def limits() -> Iterator[None]:
    """Small, so that examples stay readable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "PAGE_ROWS", ROWS)
        patch.setattr(outbox, "PAGE_KEYS", KEYS)
        yield


def read(rows: list[OutboxRow], after: int) -> Page:
    """What `first_page` and `next_page` make of what PostgreSQL finds after `after`."""
    found = [row for row in rows if row.seq > after][: ROWS + 1]
    return outbox._page("1:1:", "1:9:", after, found)


outboxes = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2 * KEYS))).map(
    lambda found: [
        OutboxRow(sum(gap for gap, _ in found[: n + 1]), "s.t", "U", ["k"] * keys, None, NOW)
        for n, (_, keys) in enumerate(found)
    ]
)


@given(outboxes)
def test_pages_hold_every_row_once_in_order_within_their_limits(rows: list[OutboxRow]) -> None:
    pages = [read(rows, 0)]
    while not pages[-1].last:
        assert pages[-1].rows
        pages.append(read(rows, pages[-1].upto))
    assert [row for page in pages for row in page.rows] == rows
    for page in pages:
        assert len(page.rows) <= ROWS
        assert sum(len(row.keys) for row in page.rows) <= KEYS or len(page.rows) == 1
        assert [row.seq for row in page.rows] == [
            row.seq for row in rows if page.after < row.seq <= page.upto
        ]


@given(outboxes)
def test_the_last_page_says_so_and_only_that_one(rows: list[OutboxRow]) -> None:
    page = read(rows, 0)
    assert page.last == (len(page.rows) == len(rows))
