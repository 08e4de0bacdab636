"""ClickHouse in process keeps the contract of series stores."""

from __future__ import annotations

from collections.abc import Collection

import chdb
import pyarrow as pa
import pytest

from polyplane.model.stream import Stream
from polyplane.stores.protocol import SeriesStore
from polyplane.stores.series import clickhouse
from polyplane.testing.readings import Row
from polyplane.testing.series import SeriesStoreContract


def raw(url: str, sql: str) -> pa.Table:
    """The answer of chdb itself, on a connection of its own."""
    connection = chdb.connect(url.removeprefix("chdb://"))  # type: ignore[no-untyped-call]
    try:
        answer = connection.query(sql, "ArrowStream").bytes()
    finally:
        connection.close()
    return pa.ipc.open_stream(answer).read_all() if answer else pa.table({})


class TestChdb(SeriesStoreContract):
    writing_sql = (
        "INSERT INTO reading (value) VALUES (1)",
        "DROP TABLE reading",
        "ALTER TABLE reading DELETE WHERE 1",
        "TRUNCATE TABLE reading",
        "OPTIMIZE TABLE reading FINAL",
        "SYSTEM FLUSH LOGS",
        "SET readonly = 0",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_result_rows = 0",
        "SELECT 1; DROP TABLE reading",
        "SELECT 1 INTO OUTFILE 'stolen'",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT file('/etc/hostname')",
        "SELECT `file`('/etc/hostname')",
        "SELECT * FROM Python(url)",
        'SELECT * FROM "python"(url)',
        "SELECT * FROM eval('SELECT 1')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM remote('127.0.0.1', system.one)",
        "CREATE TEMPORARY TABLE t (a Int8) ENGINE = Memory",
        "KILL QUERY WHERE 1",
        "not sql",
        "",
    )
    endless_sql = "SELECT number FROM numbers(2000000)"
    failing_sql = "SELECT throwIf(number = 900000) FROM numbers(1000000)"

    @pytest.fixture(autouse=True)
    def _url(self, running_chdb_url: str) -> None:
        self.url = running_chdb_url

    async def open(self, place: str) -> SeriesStore:
        return await clickhouse.connect(self.url, database=place)

    async def raw_rows(self, place: str, stream: type[Stream]) -> list[Row]:
        found: list[Row] = raw(self.url, f"SELECT * FROM {place}.{stream.name}").to_pylist()
        return found

    async def lose(self, place: str, stream: type[Stream], identities: Collection[bytes]) -> None:
        listed = ", ".join(f"unhex('{identity.hex()}')" for identity in identities)
        table = f"{place}.{stream.name}"
        raw(self.url, f"DELETE FROM {table} WHERE event_id IN ({listed})")
