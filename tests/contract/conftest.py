"""What the contracts of engines share."""

from __future__ import annotations

from collections.abc import Iterator

import chdb
import pytest


@pytest.fixture(scope="session")
def chdb_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One folder for all of a session, for a process may have one chdb path open at a time.

    Kept open, so that the engine starts once.
    """
    folder = tmp_path_factory.mktemp("chdb")
    connection = chdb.connect(str(folder))  # type: ignore[no-untyped-call]
    yield f"chdb://{folder}"
    connection.close()
