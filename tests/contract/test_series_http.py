"""The server path of the ClickHouse adapter keeps the contract, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from polyplane.errors import Misconfigured, Refused
from polyplane.stores.protocol import SeriesStore
from polyplane.stores.series import clickhouse
from polyplane.testing.readings import Reading
from polyplane.testing.samples import ALL
from tests.contract.clickhouse_http import PASSWORD, ClickHouseHttp
from tests.contract.test_series_chdb import TestChdb as Contract, raw


@pytest.fixture(scope="module")
def server(running_chdb_url: str) -> Iterator[ClickHouseHttp]:
    """The HTTP interface of the session's chdb."""
    server = ClickHouseHttp(running_chdb_url.removeprefix("chdb://"))
    yield server
    server.close()


class TestHttp(Contract):
    @pytest.fixture(autouse=True)
    def _server(self, server: ClickHouseHttp) -> None:
        self.server = server

    async def open(self, place: str) -> SeriesStore:
        return await clickhouse.connect(f"{self.server.url}/{place}")


async def test_a_server_syncs_what_it_inserts(
    server: ClickHouseHttp, running_chdb_url: str
) -> None:
    store = await clickhouse.connect(server.url, database="server_lab")
    try:
        assert store.multi_process
        await store.prepare(Reading)
        engine = raw(
            running_chdb_url,
            "SELECT engine_full FROM system.tables WHERE database = 'server_lab'",
        )
        assert "fsync_after_insert = 1" in engine["engine_full"][0].as_py()
    finally:
        await store.close()


async def test_a_wrong_password_is_misconfigured(server: ClickHouseHttp) -> None:
    with pytest.raises(Misconfigured) as wrong:
        await clickhouse.connect(server.url.replace(PASSWORD, "guess-me"))
    assert "guess-me" not in str(wrong.value)


async def test_a_missing_database_of_a_query_is_refused(server: ClickHouseHttp) -> None:
    store = await clickhouse.connect(server.url, database="server_lab")
    try:
        with pytest.raises(Refused):
            await store.query(ALL, "SELECT * FROM nowhere.nothing", {})
    finally:
        await store.close()
