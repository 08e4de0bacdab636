"""What PostgreSQL's own errors become."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from polyplane.errors import TruthDown
from polyplane.truth.database import in_our_words

DAMAGE = psycopg.errors.IndexCorrupted("index is not a btree\nwith a second line")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (psycopg.OperationalError("gone"), "does not answer"),
        (DBAPIError("SELECT 1", {}, psycopg.OperationalError("gone")), "does not answer"),
        (DAMAGE, "is damaged"),
        (DBAPIError("SELECT 1", {}, DAMAGE), "is damaged"),
        (psycopg.errors.DataCorrupted("page verification failed"), "is damaged"),
    ],
)
def test_faults_are_told_in_our_words(error: Exception, told: str) -> None:
    with pytest.raises(TruthDown, match=told) as raised, in_our_words():
        raise error
    assert "second line" not in str(raised.value)
    assert raised.value.fix


def test_what_is_no_fault_of_the_server_passes() -> None:
    with pytest.raises(psycopg.errors.UniqueViolation), in_our_words():
        raise psycopg.errors.UniqueViolation("twice")
