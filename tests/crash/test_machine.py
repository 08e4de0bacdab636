"""A plane against a dictionary: whatever is done to it, the store is what follows from the rows."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import polyplane as pp
from polyplane import Settings
from tests.flow.things import Thing, ThingSearch

KEYS = st.integers(0, 12)
BODIES = st.sampled_from(["", "a", "b", "ä"])
WAIT_S = 30.0


def machine_of(own: Settings) -> type[RuleBasedStateMachine]:
    """A machine on these settings; each of its runs begins by deleting every row."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.rows: dict[int, str] = {}
            self.runner = asyncio.Runner()
            self.plane = pp.Plane(settings=own, models=[Thing], projections=[ThingSearch])
            self.runner.run(self.plane.open())
            self.execute("DELETE FROM thing", [])

        def execute(self, statement: str, values: list[Any]) -> None:
            async def run() -> None:
                async with self.plane.opened.database.connection() as connection:
                    await connection.execute(statement.encode(), values)

            self.runner.run(run())

        @rule(key=KEYS, body=BODIES)
        def write(self, key: int, body: str) -> None:
            self.execute(
                "INSERT INTO thing VALUES (%s, %s)"
                " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                [key, body],
            )
            self.rows[key] = body

        @rule(key=KEYS)
        def delete(self, key: int) -> None:
            self.execute("DELETE FROM thing WHERE id = %s", [key])
            self.rows.pop(key, None)

        @rule(first=KEYS, body=BODIES)
        def bulk(self, first: int, body: str) -> None:
            self.execute("DELETE FROM thing WHERE id >= %s", [first])
            self.execute(
                "INSERT INTO thing SELECT n, %s FROM generate_series(%s::int, %s::int) n",
                [body, first, first + 1_500],
            )
            self.rows = {key: it for key, it in self.rows.items() if key < first}
            self.rows |= dict.fromkeys(range(first, first + 1_501), body)

        @rule()
        def start_again(self) -> None:
            self.runner.run(self.plane.close())
            self.runner.run(self.plane.open())

        @invariant()
        def store_is_derived(self) -> None:
            async def look() -> dict[int, str]:
                await self.plane.caught_up(timeout_s=WAIT_S)
                keys = sorted({*range(14), *self.rows})
                return {int(hit.key): hit.text for hit in await self.plane[ThingSearch].get(keys)}

            found = self.runner.run(look())
            assert found == {key: body for key, body in self.rows.items() if body}

        def teardown(self) -> None:
            drift = self.runner.run(self.plane.verify())
            assert (drift.missing, drift.stale, drift.extra) == (0, 0, 0)
            self.runner.run(self.plane.close())
            self.runner.close()

    return Machine


def test_a_plane_is_a_dictionary_and_what_follows(own_settings: Settings) -> None:
    few = settings(max_examples=3, stateful_step_count=8, deadline=None)
    is_long = settings().max_examples > 1_000
    run_state_machine_as_test(
        machine_of(own_settings),
        settings=settings(few, max_examples=30, stateful_step_count=30) if is_long else few,
    )
