"""What the contracts of engines share."""

from __future__ import annotations

from collections.abc import Iterator

import chdb
import pytest


@pytest.fixture(scope="session")
def running_chdb_url(chdb_url: str) -> Iterator[str]:
    """The session's chdb folder, kept open so that the engine starts once and not for each test."""
    connection = chdb.connect(chdb_url.removeprefix("chdb://"))  # type: ignore[no-untyped-call]
    yield chdb_url
    connection.close()
